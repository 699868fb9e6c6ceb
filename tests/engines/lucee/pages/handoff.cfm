<cfinclude template="app.cfm"><cfset begin()><cfset other = getApplicationSettings().other><cfoutput><!doctype html>
<html><body>
<!--- What old apps do for people without cookies, and to be found again after a stay elsewhere. --->
<a href="state.cfm?#session.urltoken#">Own</a>
<a href="/#other#/state.cfm?#session.urltoken#">Other</a>
</body></html></cfoutput>
