<cfinclude template="app.cfm"><cfscript>
// Takes `ms`, as a report does.
begin();
sleep(min(url.ms, 30000));
json(state());
</cfscript>
