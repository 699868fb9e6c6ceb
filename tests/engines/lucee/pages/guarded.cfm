<cfinclude template="app.cfm"><cfscript>
// The heartbeat page of an app that wants a sign-in.
begin();
if (!structKeyExists(session, "user")) location(url="login.cfm", addtoken=false);
json({"started": whole(session.started)});
</cfscript>
