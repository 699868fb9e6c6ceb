<%-- The usual two calls: the ticket's cookie is taken back, the session's content is given up. --%>
<%@ Page Language="C#" %><%
FormsAuthentication.SignOut();
Session.Abandon();
Response.Redirect("index.aspx"); %>
