<cfinclude template="app.cfm"><cfscript>
begin();
if (cgi.request_method == "POST") {
    // A new id for whoever signs in, the content stays.
    sessionRotate();
    session.user = form.user;
    // ?addtoken=true: as CFML does by default, the ids go along in the query.
    location(url="index.cfm", addtoken=url.addtoken ?: false);
}
</cfscript><!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="login.cfm"><input name="user"><input type="password" name="password"><button>Sign in</button></form>
</body></html>
