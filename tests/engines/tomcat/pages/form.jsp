<%@ page session="false" contentType="text/html" %><!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="<%= request.getContextPath() %>/secure/j_security_check">
<input name="j_username"><input type="password" name="j_password"><button>Sign in</button></form>
</body></html>
