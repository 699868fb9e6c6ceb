<%@ include file="app.jspf" %><%
// Links as an application writes them that wants to live without cookies too.
begin(request);
response.setContentType("text/html; charset=utf-8");
%><!doctype html>
<html><body>
<a href="<%= response.encodeURL("state.jsp") %>">State</a>
<a href="<%= response.encodeURL("data.jsp?key=note&value=kept").replace("&", "&amp;") %>">Data</a>
</body></html>
