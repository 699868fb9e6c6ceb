<%-- Holds the session's lock for `ms`, as a report does that takes its time. --%>
<%@ Page Language="C#" %><%
System.Threading.Thread.Sleep(Math.Min(int.Parse(Request.QueryString["ms"]), 30000));
App.Json(Context, App.State(Context)); %>
