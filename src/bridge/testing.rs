//! Rules of apps for tests, as the config would make them, and the shortest way through the two translations.

use std::sync::Arc;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method};

use super::app_session::{AppSession, Edit, Learned, Sent};
use super::mount::Mount;
use super::rules::{
    Adopt, Alive, AppIx, AppRules, BeatRules, BridgeRules, Clocks, CookieMode, Engine, FormTokens, Mode,
    PartRule, SameSite, Scope, SessionRules, SetCookiePolicy, Shape, SignOutRules, TokenRule, UrlToken,
};
use super::share::Share;
use super::to_app::{self, Seen, ToApp};
use super::to_client::{self, ToClient};
use super::url::{Clean, Found, TooManyParams, clean};
use super::vault::{Carrier, Reach, Role};
use crate::time::Timestamp;
use crate::wire::fields::Fields;
use crate::wire::forwarded::Client;
use crate::wire::request::Head;

/// The public host of all tests.
pub(crate) const HOST: &str = "apps.example.org";
/// The name of the proxy's cookie in all tests.
pub(crate) const BRIDGE: &str = "__Host-bridge";

/// Seconds from a start that is no round number.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + seconds)
}

/// What a request of generation `generation` was sent with.
pub(crate) fn sent(generation: u32, started: u64, unsafe_method: bool) -> Sent {
    Sent { generation, revision: 0, started: at(started), unsafe_method }
}

/// What lives and dies together, as the config has it where it says nothing.
pub(crate) fn bridge() -> BridgeRules {
    BridgeRules {
        cookie: BRIDGE.into(),
        same_site: SameSite::Lax,
        prefix: "/.bridge".into(),
        clocks: Clocks {
            idle_timeout: Duration::from_secs(30 * 60),
            presence_limit: Some(Duration::from_secs(4 * 3600)),
            presence_ttl: Duration::from_secs(90),
            max_lifetime: Duration::from_secs(12 * 3600),
        },
        adopt_cookies: None,
        mode: Mode::Bridge,
    }
}

fn part(name: &str, shape: &str) -> PartRule {
    PartRule {
        name: name.into(),
        cookie: Some(name.into()),
        query: None,
        path_param: None,
        segment: false,
        shape: Shape::new(shape).unwrap(),
    }
}

fn both(name: &str, shape: &str) -> PartRule {
    PartRule { query: Some(name.into()), ..part(name, shape) }
}

fn jsessionid() -> PartRule {
    PartRule { path_param: Some("jsessionid".into()), ..both("JSESSIONID", "[0-9A-Za-z._!-]{1,128}") }
}

fn one(parts: Vec<PartRule>) -> TokenRule {
    TokenRule { parts, rolling: false }
}

fn rolling(parts: Vec<PartRule>) -> TokenRule {
    TokenRule { parts, rolling: true }
}

fn tokens(engine: Engine) -> Vec<TokenRule> {
    let pair = || vec![both("CFID", "[0-9]{1,20}|[0-9A-Fa-f-]{36}"), both("CFTOKEN", "[0-9A-Za-z-]{1,64}")];
    match engine {
        Engine::ColdFusion | Engine::Lucee => vec![one(vec![jsessionid()]), one(pair())],
        Engine::OpenBd => vec![one(pair())],
        Engine::Php => vec![one(vec![both("PHPSESSID", "[a-zA-Z0-9,-]{22,256}")])],
        Engine::AspNet => vec![
            one(vec![PartRule { segment: true, ..part("ASP.NET_SessionId", "[a-z0-5]{24}|[0-9A-F]{24}") }]),
            rolling(vec![part(".ASPXAUTH", "[ -~]+")]),
            rolling(vec![part(".MONOAUTH", "[ -~]+")]),
        ],
        Engine::Rails => vec![rolling(vec![part("_app_session", "[ -~]+")])],
        Engine::Custom => vec![one(vec![both("SHOPSESSION", "[0-9a-f]{32}")])],
        _ => vec![one(vec![jsessionid()])],
    }
}

/// The session rules of `engine` as a config that says nothing more would make them.
pub(crate) fn session_rules(engine: Engine) -> SessionRules {
    SessionRules {
        engine,
        tokens: tokens(engine),
        timeout: Duration::from_secs(1200),
        cookies: CookieMode::Vault,
        persistent: false,
        exceptions: Vec::new(),
        set_cookie: SetCookiePolicy::default(),
        url_tokens: Vec::new(),
        keep_url_tokens: false,
        form_tokens: FormTokens::Cut,
        shares: Vec::new(),
        adopt: Adopt::Proven,
    }
}

/// The app `name` (its key is its last letter's place in the alphabet) of `engine` at `path`.
pub(crate) fn app(engine: Engine, name: &str, path: &str) -> AppRules {
    let app = AppIx(name.bytes().last().map_or(0, |octet| u16::from(octet.to_ascii_uppercase() - b'A')));
    AppRules {
        app,
        name: Arc::from(name),
        mount: Mount::new(path, false, false),
        session: Some(session_rules(engine)),
        beat: Some(beat_rules()),
        sign_out: SignOutRules {
            scope: Scope::Together,
            detect: Vec::new(),
            recipe: None,
            login: Vec::new(),
        },
        releases: false,
    }
}

/// As [`app`], with its session rules changed.
pub(crate) fn app_with(engine: Engine, path: &str, change: impl FnOnce(&mut SessionRules)) -> AppRules {
    let mut rules = app(engine, "appA", path);
    change(rules.session.as_mut().unwrap());
    rules
}

/// Heartbeats every third of the timeout, without jitter.
pub(crate) fn beat_rules() -> BeatRules {
    BeatRules {
        path: "/AppA/ping.cfm".into(),
        method: Method::GET,
        every: None,
        jitter_percent: 0,
        timeout: Duration::from_secs(5),
        max_in_flight: 64,
        max_rate: None,
        limit: None,
        alive: Alive { status: vec![(200, 299)], contains: "".into() },
        canary: None,
    }
}

/// The parameter `param` carries part `part` of token `token` of app `app`.
pub(crate) fn url_token(param: &str, app: u16, token: usize, part: usize) -> UrlToken {
    UrlToken { param: param.into(), app: AppIx(app), token, part }
}

/// A client without trusted hops.
pub(crate) fn client(https: bool) -> Client {
    Client {
        address: [192, 0, 2, 7].into(),
        via: smallvec::SmallVec::new(),
        https,
        host: None,
        port: None,
        trusted: false,
    }
}

/// An edit of a token's part.
pub(crate) fn token<'a>(token: u8, part: u8, parts: u8, value: Option<&'a str>) -> Edit<'a> {
    const NAMES: [[&str; 2]; 3] = [["CFID", "CFTOKEN"], ["T1", "T1b"], ["T2", "T2b"]];
    Edit {
        name: NAMES[usize::from(token)][usize::from(part)].as_bytes(),
        value: value.map(str::as_bytes),
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        role: Role::Token { token, part },
        parts,
        rolling: false,
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach::default(),
    }
}

/// Both parts of a pair.
pub(crate) fn pair<'a>(id: &'a str, secret: &'a str) -> [Edit<'a>; 2] {
    [token(0, 0, 2, Some(id)), token(0, 1, 2, Some(secret))]
}

/// A cookie that is no token.
pub(crate) fn plain<'a>(name: &'a str, value: Option<&'a str>) -> Edit<'a> {
    Edit {
        name: name.as_bytes(),
        value: value.map(str::as_bytes),
        path: b"/",
        host: b"",
        subdomains: false,
        expires: 0,
        role: Role::Plain,
        parts: 1,
        rolling: true,
        carrier: Carrier::Cookie,
        secure: false,
        reach: Reach::default(),
    }
}

/// The vault as `name=value` pairs.
pub(crate) fn held(session: &AppSession) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    session.vault().iter().map(|cookie| format!("{}={}", text(cookie.name), text(cookie.value))).collect()
}

/// A request for `path` (and query) with the Cookie field `cookies`, on its way to the app.
pub(crate) fn to_app(
    rules: &AppRules,
    session: Option<&AppSession>,
    path: &str,
    cookies: &str,
) -> (Head, Seen) {
    let mut headers = HeaderMap::new();
    if !cookies.is_empty() {
        headers.insert(COOKIE, HeaderValue::from_bytes(cookies.as_bytes()).unwrap());
    }
    to_app_with(rules, session, path, headers, |context| context)
}

/// As [`to_app`], with all fields, and with the context changed.
pub(crate) fn to_app_with<'a>(
    rules: &'a AppRules,
    session: Option<&'a AppSession>,
    path: &str,
    headers: HeaderMap,
    change: impl for<'c> FnOnce(ToApp<'c>) -> ToApp<'c>,
) -> (Head, Seen) {
    let client = client(true);
    let context = ToApp {
        rules,
        session,
        client: &client,
        authority: HOST,
        host: HOST,
        own: false,
        own_cookies: &[BRIDGE, "bridge", "appA.", "appB."].map(Box::from),
        adopting: false,
        allow_names: &[],
        now: at(0),
    };
    let context = change(context);
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let (clean, _) = clean(rules, path, query, |_| rules.session.as_ref()).unwrap();
    to_app::translate(&context, Method::GET, &clean, &Fields::of(&headers))
}

/// The Cookie field that the app gets; empty where there is none.
pub(crate) fn app_sees(rules: &AppRules, session: Option<&AppSession>, cookies: &str) -> String {
    let path = format!("{}x", rules.mount.prefix());
    cookie_of(&to_app(rules, session, &path, cookies).0)
}

/// The Cookie field of a head.
pub(crate) fn cookie_of(head: &Head) -> String {
    head.field(&COOKIE).map_or(String::new(), |line| String::from_utf8_lossy(line).into_owned())
}

/// What an answer to a request for `app_path` is read in.
pub(crate) fn answer<'a>(
    rules: &'a AppRules,
    session: Option<&'a AppSession>,
    app_path: &'a str,
) -> ToClient<'a> {
    ToClient {
        rules,
        vault: session.map(AppSession::vault),
        app_path,
        app_host: HOST,
        app_authority: "10.0.0.11:8500",
        public_authority: HOST,
        https: true,
        now: at(0),
    }
}

/// What the browser gets of the Set-Cookie `fields` that the app sends for its page `x`; the rest is learned.
pub(crate) fn learn(rules: &AppRules, session: &mut AppSession, fields: &[&str]) -> (Vec<String>, Learned) {
    let path = if rules.mount.strips() { "/x".to_owned() } else { format!("{}x", rules.mount.prefix()) };
    let fields: Vec<HeaderValue> =
        fields.iter().map(|field| HeaderValue::from_bytes(field.as_bytes()).unwrap()).collect();
    let vault = session.vault().clone();
    let context = ToClient { vault: Some(&vault), ..answer(rules, None, &path) };
    let from_app = to_client::read(&context, &fields, &[]);
    let learned = session.learn(session.sent(at(1), false), &from_app.edits, at(1));
    let relayed = from_app.relayed.iter().map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned());
    (relayed.collect(), learned)
}

/// An empty session of `rules`' app.
pub(crate) fn empty(rules: &AppRules) -> AppSession {
    AppSession::new(rules.app, at(0))
}

/// One that has learned `fields`.
pub(crate) fn with(rules: &AppRules, fields: &[&str]) -> AppSession {
    let mut session = empty(rules);
    learn(rules, &mut session, fields);
    session
}

/// A URL cleaned: what is left and what was found. Tokens of other apps are those of `rules`.
pub(crate) fn cleaned(rules: &AppRules, url: &str) -> Result<(String, Found), TooManyParams> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let (clean, found): (Clean<'_>, Found) = clean(rules, path, query, |_| rules.session.as_ref())?;
    Ok((clean.to_text(), found))
}

/// CFML at /AppA/ (its tokens: JSESSIONID, the pair) and JSP at /AppB/ (JSESSIONID) share; PHP at /AppC/ does not.
pub(crate) fn sharing() -> [AppRules; 3] {
    let mut rules = [
        app(Engine::Lucee, "appA", "/AppA/"),
        app(Engine::Servlet, "appB", "/AppB/"),
        app(Engine::Php, "appC", "/AppC/"),
    ];
    let share = |with, path: &str| Share {
        with: AppIx(with),
        tokens: smallvec::smallvec![(0, 0)],
        path: path.into(),
        same_servers: true,
    };
    rules[0].session.as_mut().unwrap().shares.push(share(1, "/AppB/"));
    rules[1].session.as_mut().unwrap().shares.push(share(0, "/AppA/"));
    rules
}
