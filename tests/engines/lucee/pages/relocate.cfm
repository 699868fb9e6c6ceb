<!--- cflocation, the tag, with addtoken as the query says; ?user=U signs in before. --->
<cfif structKeyExists(url, "user")><cfset session.user = url.user></cfif>
<cflocation url="state.cfm" addtoken="#url.addtoken#">
