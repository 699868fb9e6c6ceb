<cfinclude template="app.cfm"><cfset begin()><p>the first half</p><cfthrow message="the page fails here"><p>the second half</p>
