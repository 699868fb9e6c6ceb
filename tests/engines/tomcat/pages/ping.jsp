<%@ include file="app.jspf" %><%-- The heartbeat page. --%>{"started":<%= begin(request).getAttribute("started") %>}
