<%@ page session="false" contentType="text/plain" %>quiet
