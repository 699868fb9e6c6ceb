<%-- Forgets who is signed in, and nothing else: the session and its id live on. --%>
<%@ Page Language="C#" %><%
Session.Remove("user");
App.Json(Context, App.State(Context)); %>
