<%@ Page Language="C#" %><%
App.Data(Session)[Request.QueryString["key"]] = Request.QueryString["value"];
App.Json(Context, App.State(Context)); %>
