//! What a session adds to a request: its URL cleaned, its head translated, the answer's cookies read and applied.
//!
//! Invariant: the rules are those that the config makes; the session has learned its tokens as it would from an app.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sessionbridge::bridge::app_session::AppSession;
use sessionbridge::bridge::rules::{AppIx, AppRules};
use sessionbridge::bridge::to_app::{self, ToApp};
use sessionbridge::bridge::to_client::{self, ToClient};
use sessionbridge::bridge::url;
use sessionbridge::route::RouteMap;
use sessionbridge::time::Timestamp;
use sessionbridge::wire::fields::Fields;
use sessionbridge::wire::forwarded::{self, Client};

const HOST: &str = "apps.example.org";
const CONFIG: &str = r#"
listen = "127.0.0.1:8080"
[apps.plain]
path = "/plain/"
upstreams = ["http://127.0.0.1:8500"]
[apps.appA]
path = "/AppA/"
upstreams = ["http://127.0.0.1:8501"]
session.engine = "coldfusion"
session.url_tokens = { AID = "CFID", ATOKEN = "CFTOKEN" }
heartbeat.path = "/AppA/ping.cfm"
"#;
const COOKIES: &str = "bridge=kd0sJ3mN8xQ2vB7cT5wZ9A; theme=light; lang=en; consent=all";

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

/// The route map, and who asks.
fn world() -> (RouteMap, Client) {
    let (config, _) =
        sessionbridge::config::load_str("bench", CONFIG, &mut sessionbridge::names::Names::default())
            .unwrap();
    let client = forwarded::resolve(Some([192, 0, 2, 7].into()), &[], &HeaderMap::new(), false);
    (config.routes, client)
}

/// What a browser sends for a page.
fn head() -> HeaderMap {
    let fields = [
        ("host", HOST),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0",
        ),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("referer", "http://apps.example.org/AppA/list.cfm?page=2"),
        (COOKIE.as_str(), COOKIES),
    ];
    let named = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.into_iter().map(named).collect()
}

fn to_client<'a>(rules: &'a AppRules, session: &'a AppSession) -> ToClient<'a> {
    ToClient {
        rules,
        vault: Some(session.vault()),
        app_path: "/AppA/x.cfm",
        app_host: HOST,
        app_authority: "127.0.0.1:8501",
        public_authority: HOST,
        https: false,
        now: now(),
    }
}

/// A session that has learned both of its tokens.
fn signed_in(rules: &AppRules) -> AppSession {
    let fields = ["CFID=17; Path=/; HttpOnly", "CFTOKEN=81726354; Path=/; HttpOnly"];
    let fields = fields.map(HeaderValue::from_static);
    let mut session = AppSession::new(rules.app, now());
    let empty = session.clone();
    let answer = to_client::read(&to_client(rules, &empty), &fields, &[]);
    session.learn(empty.sent(now(), false), &answer.edits, now());
    assert!(session.has_token());
    session
}

fn urls(c: &mut Criterion) {
    let (routes, _) = world();
    let rules = &routes.named("appA").unwrap().rules;
    let tokens_of = |_: AppIx| rules.session.as_ref();
    c.bench_function("bridge/url/nothing_to_clean", |b| {
        b.iter(|| url::clean(rules, black_box("/AppA/list.cfm"), Some("page=2"), tokens_of).is_ok());
    });
    c.bench_function("bridge/url/a_token_to_cut", |b| {
        b.iter(|| {
            url::clean(rules, black_box("/AppA/list.cfm"), Some("page=2&AID=17&ATOKEN=8172"), tokens_of)
                .is_ok()
        });
    });
}

fn requests(c: &mut Criterion) {
    let (routes, client) = world();
    let headers = head();
    let fields = Fields::of(&headers);
    for (name, app, path) in
        [("plain", "plain", "/plain/x"), ("first_visit", "appA", "/AppA/x"), ("session", "appA", "/AppA/x")]
    {
        let rules = &routes.named(app).unwrap().rules;
        let session = (name == "session").then(|| signed_in(rules));
        let context = ToApp {
            rules,
            session: session.as_ref(),
            client: &client,
            authority: HOST,
            host: HOST,
            own: false,
            own_cookies: routes.own_cookies(),
            adopting: false,
            allow_names: &[],
            now: now(),
        };
        let (clean, _) = url::clean(rules, path, None, |_| rules.session.as_ref()).unwrap();
        c.bench_function(&format!("bridge/to_app/{name}"), |b| {
            b.iter(|| to_app::translate(black_box(&context), Method::GET, &clean, black_box(&fields)));
        });
    }
}

fn answers(c: &mut Criterion) {
    let (routes, _) = world();
    let rules = &routes.named("appA").unwrap().rules;
    let session = signed_in(rules);
    let kinds: [(&str, &[&'static str]); 3] = [
        ("no_cookie", &[]),
        ("a_cookie_to_relay", &["theme=dark; Path=/"]),
        ("the_token_again", &["CFID=17; Path=/; HttpOnly", "CFTOKEN=81726354; Path=/; HttpOnly"]),
    ];
    for (name, fields) in kinds {
        let fields: Vec<HeaderValue> = fields.iter().map(|field| HeaderValue::from_static(field)).collect();
        c.bench_function(&format!("bridge/to_client/{name}"), |b| {
            b.iter(|| to_client::read(&to_client(rules, &session), black_box(&fields), &[]).relayed.len());
        });
        let answer = to_client::read(&to_client(rules, &session), &fields, &[]);
        let sent = session.sent(now(), false);
        c.bench_function(&format!("bridge/learn/{name}"), |b| {
            b.iter_batched_ref(
                || session.clone(),
                |session| session.learn(sent, black_box(&answer.edits), now()),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, urls, requests, answers);
criterion_main!(benches);
