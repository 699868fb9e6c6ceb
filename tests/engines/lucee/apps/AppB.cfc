// AppB: CF sessions that live for 5 minutes.
component {
    this.name = "AppB";
    this.sessionManagement = true;
    this.sessionType = "cfml";
    this.sessionTimeout = createTimeSpan(0, 0, 5, 0);
    this.setClientCookies = true;
    // Client variables only where the page about them is: their cookies would blur the others.
    this.clientManagement = listLast(cgi.script_name, "/") == "client.cfm";
    this.clientStorage = "cookie";
    // Another app on the same host, for the link on the front page.
    this.other = "AppA";
}
