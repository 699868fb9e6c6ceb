<%-- Forgets who is signed in, and nothing else: the session lives on, as where a ticket has a shorter life of its own. --%>
<%@ Page Language="C#" %><%
FormsAuthentication.SignOut();
Context.User = null;
App.Json(Context, App.State(Context)); %>
