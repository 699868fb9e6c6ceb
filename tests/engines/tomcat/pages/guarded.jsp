<%@ include file="app.jspf" %><%
// The heartbeat page of an app that wants a sign-in.
HttpSession session = begin(request);
if (session.getAttribute("user") == null) {
    response.sendRedirect(response.encodeRedirectURL("login.jsp"));
    return;
}
%>{"started":<%= session.getAttribute("started") %>}
