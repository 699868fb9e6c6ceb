<cfscript>
// Never mentions the session.
cfcontent(type="text/plain", reset=true);
writeOutput("quiet");
</cfscript>
