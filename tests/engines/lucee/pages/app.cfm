<cfscript>
// What every page shares. Nothing here touches the session until `begin` or `state` is called: on Lucee that is what decides
// whether a request keeps it alive.
private void function begin() {
    if (!structKeyExists(session, "started")) session.started = getTickCount();
    if (!structKeyExists(session, "data")) session.data = {};
}

private struct function state() {
    return {
        "started": whole(session.started),
        "now": whole(getTickCount()),
        "user": session.user ?: javaCast("null", ""),
        "data": session.data
    };
}

private any function whole(required numeric value) {
    return javaCast("long", value);
}

private void function json(required struct value) {
    cfcontent(type="application/json", reset=true);
    writeOutput(serializeJSON(value));
}
</cfscript>
