<cfinclude template="app.cfm"><cfscript>
// The heartbeat page: it touches the session, and its `started` tells a session from an empty one under the same id.
begin();
json({"started": whole(session.started)});
</cfscript>
