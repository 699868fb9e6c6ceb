<cfinclude template="app.cfm"><cfscript>
// The form token that Lucee keeps in the session.
begin();
json({"csrf": csrfGenerateToken()});
</cfscript>
