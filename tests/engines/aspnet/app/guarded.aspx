<%-- Only for who is signed in, as most pages of most apps are. --%>
<%@ Page Language="C#" %><%@ Import Namespace="System.Collections.Generic" %><%
var started = App.Started(Session);
if (App.User(Context) == null) FormsAuthentication.RedirectToLoginPage();
else App.Json(Context, new Dictionary<string, object> { { "started", started } }); %>
