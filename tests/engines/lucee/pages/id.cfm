<cfinclude template="app.cfm"><cfscript>
// What a test could not see otherwise: the cookies that arrived here, and the ids of the session.
begin();
json({
    "cookie": cgi.http_cookie,
    "id": session.sessionid,
    // J2EE sessions do not show them.
    "cfid": session.cfid ?: "",
    "cftoken": session.cftoken ?: "",
    "urltoken": session.urltoken
});
</cfscript>
