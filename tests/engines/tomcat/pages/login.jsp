<%@ include file="app.jspf" %><%
HttpSession session = begin(request);
if (request.getMethod().equals("POST")) {
    // A new id for whoever signs in, the content stays.
    request.changeSessionId();
    session.setAttribute("user", request.getParameter("user"));
    response.sendRedirect(response.encodeRedirectURL("index.jsp"));
    return;
}
response.setContentType("text/html; charset=utf-8");
%><!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="<%= response.encodeURL("login.jsp") %>"><input name="user"><input type="password" name="password"><button>Sign in</button></form>
</body></html>
