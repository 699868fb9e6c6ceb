<%@ Page Language="C#" %>
<% var other = ConfigurationManager.AppSettings["other"]; %>
<!doctype html>
<html><head><title><%= ConfigurationManager.AppSettings["app"] %></title></head><body>
<h1><%= ConfigurationManager.AppSettings["app"] %></h1>
<p>Session since <output id="started"><%= App.Started(Session) %></output>,
signed in: <output id="user"><%: App.User(Context) %></output></p>
<ul>
<li><a href="state.aspx">State</a>
<li><a href="data.aspx?key=note&amp;value=kept">Data</a>
<li><a href="login.aspx">Sign in</a>
<li><a href="logout.aspx">Sign out</a>
<li><a href="ping.aspx">Ping</a>
<li><a href="<%= Response.ApplyAppPathModifier("~/state.aspx") %>">State, from the root</a>
<li><a href="/<%= other %>/index.aspx"><%= other %></a>
<li><a href="static.txt">A file</a>
</ul>
</body></html>
