<%@ include file="app.jspf" %><%
// Takes `ms`, as a report does.
HttpSession session = begin(request);
Thread.sleep(Math.min(Long.parseLong(request.getParameter("ms")), 30000));
%><%= state(session) %>
