<cfinclude template="app.cfm"><cfscript>
// sessionInvalidate and nothing else: what is left of the session is what the answer shows.
begin();
sessionInvalidate();
begin();
json(state());
</cfscript>
