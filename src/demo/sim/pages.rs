//! The pages of every simulated application, the same on each engine.
//!
//! Invariant: a page touches the session at most once, before it does anything, and [`touches`] says which
//! do.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    ids,
    look::Look,
    sessions::End,
    visit::{Engine, Live, Reply, Visit, with_query},
};

/// The longest body that `big` makes.
const BIG_MAX: usize = 64 << 20;
/// Query parameters that are ids or switches and never content.
const RESERVED: [&str; 8] = [
    "json",
    "cfid",
    "cftoken",
    "jsessionid",
    "phpsessid",
    "buildercfid",
    "buildercftoken",
    "csrfmiddlewaretoken",
];

/// Whether a page of this stem exists and takes the session.
pub(super) fn touches(page: &str) -> bool {
    const TOUCHING: [&str; 19] = [
        "index",
        "set",
        "get",
        "ping",
        "login",
        "logout",
        "private",
        "links",
        "relocate",
        "builder.xml",
        "rotate",
        "invalidate",
        "big",
        "echo",
        "slow",
        "fail",
        "download",
        "sse",
        "ws",
    ];
    TOUCHING.contains(&page)
}

/// The whole answer of the application, but for its cookies.
pub(super) fn answer(engine: &mut dyn Engine, visit: &mut Visit<'_>) -> Reply {
    let page = visit.ask.page.clone().unwrap_or_default();
    if !touches(&page) {
        engine.pass_by(visit);
        return passing(visit, &page);
    }
    if let Some(reply) = engine.admit(visit) {
        return reply;
    }
    let reply = match engine.open(visit) {
        Ok(()) => touching(engine, visit, &page),
        Err(instead) => *instead,
    };
    engine.finish(visit);
    reply
}

fn passing(visit: &Visit<'_>, page: &str) -> Reply {
    match page {
        "static.css" => Reply::new(StatusCode::OK, "text/css", "body { font-family: sans-serif }\n"),
        "notouch" => said(visit, json!({"app": visit.options.name, "now": visit.now})),
        "headers" => said(visit, headers(visit)),
        _ => Reply::html(StatusCode::NOT_FOUND, "<h1>404 Not Found</h1>".to_owned()),
    }
}

fn touching(engine: &mut dyn Engine, visit: &mut Visit<'_>, page: &str) -> Reply {
    match page {
        "set" => set(visit),
        "get" => get(visit),
        "ping" => ping(visit),
        "login" if visit.ask.method == Method::POST => sign_in(engine, visit),
        "login" => login_page(visit, ""),
        "logout" => {
            engine.sign_out(visit);
            Reply::redirect(visit.page_url("login"))
        }
        "private" => private(engine, visit),
        "links" => links(engine, visit),
        "relocate" => Reply::redirect(engine.relocation(visit, visit.ask.query("to").unwrap_or("index"))),
        "builder.xml" => builder(visit),
        "rotate" => {
            let rotated = engine.rotate(visit);
            said(visit, json!({"rotated": rotated}))
        }
        "invalidate" => {
            engine.invalidate(visit, End::Replaced);
            said(visit, json!({"invalidated": true}))
        }
        "big" => big(visit),
        "echo" => Reply::new(StatusCode::OK, visit.ask.header("content-type"), visit.ask.body.clone()),
        "slow" => slow(visit),
        "fail" => Reply::html(
            StatusCode::INTERNAL_SERVER_ERROR,
            "<h1>Half a page</h1><p>Error: it failed here".to_owned(),
        ),
        "download" => download(),
        "sse" => live(Reply::new(StatusCode::OK, "text/event-stream", ""), Live::EventStream),
        "ws" => web_socket(visit),
        _ => index(visit),
    }
}

fn index(visit: &Visit<'_>) -> Reply {
    let Some(session) = visit.session() else { return said(visit, json!({})) };
    let facts = json!({
        "app": visit.options.name,
        "engine": visit.options.profile.to_string(),
        "started": session.started,
        "now": visit.now,
        "seconds": visit.now.saturating_sub(session.started) / 1000,
        "session": session.label,
        "hits": session.hits,
        "user": visit.user,
        "data": session.data,
        "fresh": visit.fresh,
    });
    said(visit, facts)
}

/// The facts as JSON, or as a page with a note to save and a button to sign out.
fn said(visit: &Visit<'_>, facts: Value) -> Reply {
    if visit.ask.json {
        return Reply::new(StatusCode::OK, "application/json", facts.to_string());
    }
    let rows = facts.as_object().into_iter().flatten().map(|(name, value)| {
        let plain = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        format!("<tr><th>{}<td id=\"{0}\">{}", escape(name), escape(&plain))
    });
    let table = format!("<table>\n{}\n</table>", rows.collect::<Vec<_>>().join("\n"));
    let hidden = hidden(visit);
    let note = form(&visit.page_url("set"), &format!("{hidden}<input name=\"note\"><button>Save</button>"));
    let out = match visit.csrf {
        Some(_) => form(&visit.page_url("logout"), &format!("{hidden}<button>Sign out</button>")),
        None => format!("<a href=\"{}\">Sign out</a>", visit.page_url("logout")),
    };
    page(visit, &format!("{table}\n{note}\n{out}"))
}

fn page(visit: &Visit<'_>, body: &str) -> Reply {
    if let Some(skin) = visit.options.skin {
        return Reply::html(StatusCode::OK, skin(&Look::of(visit)));
    }
    let name = escape(&visit.options.name);
    let head = format!("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title>");
    Reply::html(StatusCode::OK, format!("{head}\n<h1>{name}</h1>\n{body}\n</html>\n"))
}

fn form(action: &str, inner: &str) -> String {
    format!("<form method=\"post\" action=\"{}\">{inner}</form>", escape(action))
}

fn hidden(visit: &Visit<'_>) -> String {
    let field =
        |token: &String| format!("<input type=\"hidden\" name=\"csrfmiddlewaretoken\" value=\"{token}\">");
    visit.csrf.as_ref().map_or_else(String::new, field)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn set(visit: &mut Visit<'_>) -> Reply {
    let content = |(name, _): &&(String, String)| !RESERVED.contains(&name.to_ascii_lowercase().as_str());
    let pairs: Vec<_> = visit.ask.query.iter().chain(&visit.ask.form).filter(content).cloned().collect();
    visit.changed = true;
    if let Some(session) = visit.session_mut() {
        session.data.extend(pairs);
    }
    get(visit)
}

fn get(visit: &Visit<'_>) -> Reply {
    let data = visit.session().map(|session| &session.data);
    said(visit, json!({"session": visit.label, "data": data, "fresh": visit.fresh}))
}

/// The heartbeat page: a few bytes, and when the session started unless asked to be `quiet`.
fn ping(visit: &Visit<'_>) -> Reply {
    let quiet = visit.ask.query("quiet").is_some() || !visit.options.canary;
    let Some(started) = visit.session().map(|session| session.started).filter(|_| !quiet) else {
        return Reply::new(StatusCode::OK, "application/json", "{}");
    };
    let mut reply = Reply::new(StatusCode::OK, "application/json", json!({"started": started}).to_string());
    reply.headers.push(("x-session-started", started.to_string()));
    reply
}

/// Anybody is let in with any password but none and `wrong`.
fn sign_in(engine: &mut dyn Engine, visit: &mut Visit<'_>) -> Reply {
    let user = visit.ask.form("user").unwrap_or_default().to_owned();
    let password = visit.ask.form("password").unwrap_or_default();
    if user.is_empty() || password.is_empty() || password == "wrong" {
        return login_page(visit, "<p>Wrong user or password</p>");
    }
    let wanted = visit.session_mut().and_then(|session| session.wanted.take());
    let wanted = wanted.or_else(|| visit.ask.query("ReturnUrl").map(ToOwned::to_owned));
    engine.sign_in(visit, &user);
    visit.sessions.counts.sign_ins += 1;
    Reply::redirect(wanted.unwrap_or_else(|| engine.link(visit, "index")))
}

fn login_page(visit: &Visit<'_>, notice: &str) -> Reply {
    let fields = "<input name=\"user\"><input name=\"password\" type=\"password\"><button>Sign in</button>";
    let mut action = visit.page_url("login");
    if let Some(back) = visit.ask.query("ReturnUrl") {
        action = with_query(&action, &format!("ReturnUrl={}", encode(back)));
    }
    page(visit, &format!("{notice}{}", form(&action, &format!("{}{fields}", hidden(visit)))))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn private(engine: &mut dyn Engine, visit: &mut Visit<'_>) -> Reply {
    if let Some(user) = visit.user.clone() {
        return said(visit, json!({"user": user, "session": visit.label}));
    }
    if engine.challenge(visit) {
        return login_page(visit, "");
    }
    let login = engine.link(visit, "login");
    if visit.options.profile.extension() == ".aspx" {
        let back = encode(&engine.link(visit, "private"));
        return Reply::redirect(with_query(&login, &format!("ReturnUrl={back}")));
    }
    Reply::redirect(login)
}

/// Links of the application's own as the engine prints them, and the three ways of pointing at another
/// application.
fn links(engine: &dyn Engine, visit: &Visit<'_>) -> Reply {
    let mut urls = vec![engine.link(visit, "index"), engine.link(visit, "private")];
    if let Some(other) = &visit.options.link_to {
        let index = format!("{other}index{}", visit.options.profile.extension());
        let raw: Vec<String> = visit.token.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut values = visit.token.iter().map(|(_, value)| value.as_str());
        let named =
            format!("AID={}&ATOKEN={}", values.next().unwrap_or_default(), values.next().unwrap_or("0"));
        urls.extend([index.clone(), with_query(&index, &raw.join("&")), with_query(&index, &named)]);
        let servlet = visit.token.iter().find(|(name, _)| name.eq_ignore_ascii_case("jsessionid"));
        urls.extend(servlet.map(|(_, id)| format!("{index};jsessionid={id}")));
    }
    if visit.ask.json {
        return said(visit, json!({"links": urls}));
    }
    let anchors = urls.iter().map(|url| format!("<a href=\"{}\">{0}</a>", escape(url)));
    page(visit, &anchors.collect::<Vec<_>>().join("<br>\n"))
}

/// A ColdFusion Builder extension: XML, in its CDATA a page whose refresh carries the pair under other names.
fn builder(visit: &Visit<'_>) -> Reply {
    let header = |name, other| match visit.ask.header(name) {
        "" => other,
        value => value,
    };
    let host = header("x-forwarded-host", visit.ask.header("host"));
    let root = format!("{}://{host}", header("x-forwarded-proto", "http"));
    let parts: Vec<String> =
        visit.token.iter().map(|(name, value)| format!("builder{name}={value}")).collect();
    let url = with_query(&format!("{root}{}", visit.page_url("index")), &parts.join("&"));
    let html = format!("<html><head><meta http-equiv=\"refresh\" content=\"0;url={url}\" /></head></html>");
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<response showresponse=\"true\"><ide>\
         <dialog width=\"600\" height=\"400\" /><body><![CDATA[{html}]]></body></ide></response>\n"
    );
    Reply::new(StatusCode::OK, "text/xml", xml)
}

fn headers(visit: &Visit<'_>) -> Value {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> =
        visit.ask.headers.iter().map(|(name, value)| json!([name.as_str(), text(value)])).collect();
    json!({
        "method": visit.ask.method.as_str(),
        "url": visit.ask.path_and_query,
        "query": visit.ask.query,
        "headers": headers,
        "address": visit.ask.address.to_string(),
    })
}

fn number(visit: &Visit<'_>, name: &str, default: usize) -> usize {
    visit.ask.query(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn big(visit: &Visit<'_>) -> Reply {
    let size = number(visit, "size", 1 << 20).min(BIG_MAX);
    Reply::new(StatusCode::OK, "application/octet-stream", vec![b'x'; size])
}

fn slow(visit: &Visit<'_>) -> Reply {
    let mut reply = get(visit);
    reply.delay = Duration::from_millis(number(visit, "ms", 1000) as u64);
    reply
}

fn download() -> Reply {
    let mut reply = Reply::new(StatusCode::OK, "application/octet-stream", "\x00\x01\x02 a file\r\n");
    reply.headers.push(("content-disposition", "attachment; filename=\"file.bin\"".to_owned()));
    reply
}

fn live(mut reply: Reply, live: Live) -> Reply {
    reply.live = live;
    reply
}

/// The handshake of RFC 6455, part 4.2.2.
fn web_socket(visit: &Visit<'_>) -> Reply {
    let key = visit.ask.header("sec-websocket-key");
    if key.is_empty() || !visit.ask.header("upgrade").eq_ignore_ascii_case("websocket") {
        return Reply::html(StatusCode::UPGRADE_REQUIRED, String::new());
    }
    let accept = STANDARD.encode(ids::sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let mut reply = Reply::html(StatusCode::SWITCHING_PROTOCOLS, String::new());
    reply.headers = vec![
        ("upgrade", "websocket".to_owned()),
        ("connection", "Upgrade".to_owned()),
        ("sec-websocket-accept", accept),
    ];
    live(reply, Live::WebSocket)
}
