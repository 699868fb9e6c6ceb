<%@ Page Language="C#" %><% App.Json(Context, App.State(Context)); %>
