<%@ include file="app.jspf" %><%
// Forgets who is signed in, and nothing else: the session and its id live on.
HttpSession session = begin(request);
session.removeAttribute("user");
%><%= state(session) %>
