<%@ include file="app.jspf" %><%
HttpSession session = begin(request);
@SuppressWarnings("unchecked")
Map<String, String> data = (Map<String, String>) session.getAttribute("data");
data.put(request.getParameter("key"), request.getParameter("value"));
%><%= state(session) %>
