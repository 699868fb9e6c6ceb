<cfinclude template="app.cfm"><cfscript>
// structClear and nothing else.
structClear(session);
begin();
json(state());
</cfscript>
