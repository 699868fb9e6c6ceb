<cfinclude template="app.cfm"><cfset begin()><cfoutput><!doctype html>
<html><body><a href="#URLSessionFormat('state.cfm')#">State</a></body></html></cfoutput>
