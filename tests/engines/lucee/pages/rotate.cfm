<cfinclude template="app.cfm"><cfscript>
begin();
sessionRotate();
json(state());
</cfscript>
