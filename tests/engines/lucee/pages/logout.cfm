<cfinclude template="app.cfm"><cfscript>
// The content and the id: on J2EE sessions the second alone would leave the person signed in.
structClear(session);
sessionInvalidate();
location(url="index.cfm", addtoken=false);
</cfscript>
