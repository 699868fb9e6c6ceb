<cfinclude template="app.cfm"><cfset begin()><cfset settings = getApplicationSettings()><cfoutput><!doctype html>
<html><head><title>#settings.name#</title></head><body>
<h1>#settings.name#</h1>
<p>Session since <output id="started">#whole(session.started)#</output>,
signed in: <output id="user">#htmlEditFormat(session.user ?: "")#</output></p>
<ul>
<li><a href="state.cfm">State</a>
<li><a href="data.cfm?key=note&amp;value=kept">Data</a>
<li><a href="login.cfm">Sign in</a>
<li><a href="logout.cfm">Sign out</a>
<li><a href="ping.cfm">Ping</a>
<li><a href="/#settings.other#/index.cfm">#settings.other#</a>
<li><a href="static.txt">A file</a>
</ul>
</body></html></cfoutput>
