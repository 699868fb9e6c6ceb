// AppAJ: J2EE sessions (JSESSIONID), dead after 10 s inside the container's own, which lives longer.
component {
    this.name = "AppAJ";
    this.sessionManagement = true;
    this.sessionType = "jee";
    this.sessionTimeout = createTimeSpan(0, 0, 0, 10);
    this.setClientCookies = true;
    // Client variables only where the page about them is: their cookies would blur the others.
    this.clientManagement = listLast(cgi.script_name, "/") == "client.cfm";
    this.clientStorage = "cookie";
    // Another app on the same host, for the link on the front page.
    this.other = "AppBJ";
}
