<cfinclude template="app.cfm"><cfscript>
begin();
json(state());
</cfscript>
