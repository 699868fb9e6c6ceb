<cfinclude template="app.cfm"><cfset begin()><cfoutput><p>half #1#</p><cfthrow message="the page fails here"><p>half #2#</p></cfoutput>
