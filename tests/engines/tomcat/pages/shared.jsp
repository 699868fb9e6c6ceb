<%@ include file="app.jspf" %><%
// The servlet session itself: ?value=V stores, none reads. A CFML page of the same web application sees the same.
HttpSession session = begin(request);
if (request.getParameter("value") != null) session.setAttribute("shared", request.getParameter("value"));
%>{"id":<%= quoted(session.getId()) %>,"shared":<%= quoted(session.getAttribute("shared")) %>}
