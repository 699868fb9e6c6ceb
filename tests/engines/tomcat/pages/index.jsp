<%@ include file="app.jspf" %><%
HttpSession session = begin(request);
response.setContentType("text/html; charset=utf-8");
String name = application.getInitParameter("name");
String other = application.getInitParameter("other");
Object user = session.getAttribute("user");
%><!doctype html>
<html><head><title><%= name %></title></head><body>
<h1><%= name %></h1>
<p>Session since <output id="started"><%= session.getAttribute("started") %></output>,
signed in: <output id="user"><%= user == null ? "" : user %></output></p>
<ul>
<li><a href="state.jsp">State</a>
<li><a href="data.jsp?key=note&amp;value=kept">Data</a>
<li><a href="login.jsp">Sign in</a>
<li><a href="logout.jsp">Sign out</a>
<li><a href="ping.jsp">Ping</a>
<li><a href="/<%= other %>/index.jsp"><%= other %></a>
<li><a href="static.txt">A file</a>
</ul>
</body></html>
