<%-- What the test could not see otherwise: the cookies that arrived here, and the session's id. --%>
<%@ Page Language="C#" %><%@ Import Namespace="System.Collections.Generic" %><%
App.Started(Session);
App.Json(Context, new Dictionary<string, object> { { "cookie", Request.Headers["Cookie"] ?? "" }, { "id", Session.SessionID } }); %>
