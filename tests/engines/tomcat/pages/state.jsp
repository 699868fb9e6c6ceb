<%@ include file="app.jspf" %><%= state(begin(request)) %>
