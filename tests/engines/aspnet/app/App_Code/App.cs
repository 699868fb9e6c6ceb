// What every page shares: when the session began, what it holds, and an answer in JSON.
using System;
using System.Collections.Generic;
using System.Web;
using System.Web.Script.Serialization;
using System.Web.SessionState;

public static class App
{
    static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    public static long Now()
    {
        return (long)(DateTime.UtcNow - Epoch).TotalMilliseconds;
    }

    // Unix milliseconds; kept in the session from the first time on.
    public static long Started(HttpSessionState session)
    {
        if (session["started"] == null)
            session["started"] = Now();
        return (long)session["started"];
    }

    public static Dictionary<string, string> Data(HttpSessionState session)
    {
        if (session["data"] == null)
            session["data"] = new Dictionary<string, string>();
        return (Dictionary<string, string>)session["data"];
    }

    // Session and sign-in are two things here: a forms ticket lives in its cookie alone, and nobody can take it back. So, as
    // careful applications do, the session has to know the name too. `null` for nobody.
    public static string User(HttpContext context)
    {
        var ticket = Ticket(context);
        return ticket != null && ticket == (string)context.Session["user"] ? ticket : null;
    }

    // The name in the ticket, as careless applications believe it.
    public static string Ticket(HttpContext context)
    {
        return context.Request.IsAuthenticated ? context.User.Identity.Name : null;
    }

    public static object State(HttpContext context)
    {
        return new Dictionary<string, object> {
            { "started", Started(context.Session) },
            { "now", Now() },
            { "user", User(context) },
            { "data", Data(context.Session) },
        };
    }

    public static void Json(HttpContext context, object value)
    {
        context.Response.ContentType = "application/json";
        context.Response.Write(new JavaScriptSerializer().Serialize(value));
    }
}
