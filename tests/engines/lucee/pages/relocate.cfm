<!--- cflocation, with addtoken as the query says. --->
<cflocation url="state.cfm" addtoken="#url.addtoken#">
