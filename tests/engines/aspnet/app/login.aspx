<%@ Page Language="C#" %>
<script runat="server">
// Nothing that ASP.NET has gives the session another id: a sign-in is a second cookie beside it.
void Page_Load()
{
    App.Started(Session);
    if (Request.HttpMethod != "POST") return;
    Session["user"] = Request.Form["user"];
    FormsAuthentication.SetAuthCookie(Request.Form["user"], false);
    Response.Redirect("index.aspx");
}
</script>
<!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="login.aspx"><input name="user"><input type="password" name="password"><button>Sign in</button></form>
</body></html>
