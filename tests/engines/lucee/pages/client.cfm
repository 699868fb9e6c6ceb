<cfinclude template="app.cfm"><cfscript>
// Client variables, kept in cookies.
client.visits = (client.visits ?: 0) + 1;
json({"visits": whole(client.visits)});
</cfscript>
