<cfinclude template="app.cfm"><cfscript>
begin();
session.data[url.key] = url.value;
json(state());
</cfscript>
