<%@ include file="app.jspf" %><%
HttpSession session = begin(request);
response.setContentType("text/html; charset=utf-8");
String name = request.getServletPath().isEmpty() ? "" : request.getContextPath().substring(1);
String other = application.getInitParameter("other");
Object user = session.getAttribute("user");
%><!doctype html>
<html><head><title><%= name %></title></head><body>
<h1><%= name %></h1>
<p>Session since <output id="started"><%= session.getAttribute("started") %></output>,
signed in: <output id="user"><%= user == null ? "" : user %></output></p>
<ul>
<li><a href="<%= response.encodeURL("state.jsp") %>">State</a>
<li><a href="<%= response.encodeURL("data.jsp?key=note&value=kept").replace("&", "&amp;") %>">Data</a>
<li><a href="<%= response.encodeURL("login.jsp") %>">Sign in</a>
<li><a href="<%= response.encodeURL("logout.jsp") %>">Sign out</a>
<li><a href="<%= response.encodeURL("ping.jsp") %>">Ping</a>
<li><a href="/<%= other %>/index.jsp"><%= other %></a>
<li><a href="static.txt">A file</a>
</ul>
</body></html>
