<cfinclude template="app.cfm"><cfset begin()><cfoutput><!doctype html>
<html><body><a href="#URLSessionFormat('state.cfm')#">State</a> <a href="state.cfm?#session.urltoken#">State, by hand</a></body></html></cfoutput>
