<%-- Whom the forms ticket names, whatever the session says. --%>
<%@ Page Language="C#" EnableSessionState="False" %><%@ Import Namespace="System.Collections.Generic" %><%
App.Json(Context, new Dictionary<string, object> { { "ticket", App.Ticket(Context) } }); %>
