<cfinclude template="app.cfm"><cfscript>
// Forgets who is signed in, and nothing else: the session and its id live on.
begin();
structDelete(session, "user");
json(state());
</cfscript>
