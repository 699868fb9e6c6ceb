<%-- The heartbeat page: it touches the session, and its `started` tells a session from an empty one under the same id. --%>
<%@ Page Language="C#" %><%@ Import Namespace="System.Collections.Generic" %><%
App.Json(Context, new Dictionary<string, object> { { "started", App.Started(Session) } }); %>
