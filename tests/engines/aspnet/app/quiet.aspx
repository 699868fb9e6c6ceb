<%-- Never touches the session. --%>
<%@ Page Language="C#" EnableSessionState="False" ContentType="text/plain" %>quiet
