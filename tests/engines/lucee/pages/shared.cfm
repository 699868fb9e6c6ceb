<cfinclude template="app.cfm"><cfscript>
// The container's own session, which a JSP page of the same web application sees as well: ?value=V stores, none reads.
begin();
container = getPageContext().getRequest().getSession();
if (structKeyExists(url, "value")) container.setAttribute("shared", url.value);
json({"id": container.getId(), "shared": container.getAttribute("shared") ?: javaCast("null", "")});
</cfscript>
