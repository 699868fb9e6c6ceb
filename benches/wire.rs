//! What reading and writing HTTP's texts costs: the pure functions that every request goes through.
//!
//! Invariant: each input is what a browser or an app really sends.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use sessionbridge::wire::fields::Fields;
use sessionbridge::wire::hop::Named;
use sessionbridge::wire::request::Head;
use sessionbridge::wire::set_cookie::SetCookie;
use sessionbridge::wire::{cookie, forwarded, path, query, target};

const LINE: &str = "__Host-bridge=kd0sJ3mN8xQ2vB7cT5wZ9A; theme=light; _ga=GA1.2.1234567890.1700000000; \
                    consent=all; lang=en; last=%2FAppA%2Flist.cfm; tz=Europe%2FBerlin; w=1920";
const SET: &[u8] = b"CFTOKEN=81726354; Expires=Tue, 14-Nov-2034 22:13:20 GMT; Path=/; HttpOnly; SameSite=Lax";

/// The head that a desktop browser sends for a page.
fn browser() -> HeaderMap {
    let fields = [
        ("host", "apps.example.org"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        ),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("referer", "https://apps.example.org/AppA/list.cfm?page=2"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("upgrade-insecure-requests", "1"),
        ("cookie", LINE),
        ("connection", "keep-alive"),
    ];
    let named = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.into_iter().map(named).collect()
}

fn cookies(c: &mut Criterion) {
    let bytes = LINE.as_bytes();
    c.bench_function("wire/cookie/pairs_of_8", |b| b.iter(|| cookie::pairs(black_box(bytes)).count()));
    c.bench_function("wire/set_cookie/parse", |b| b.iter(|| SetCookie::parse(black_box(SET)).is_some()));
    c.bench_function("wire/set_cookie/lifetime", |b| {
        b.iter(|| SetCookie::parse(black_box(SET)).unwrap().lifetime(1_700_000_000));
    });
}

fn urls(c: &mut Criterion) {
    let plain = "/AppA/reports/list.cfm";
    let encoded = "/AppA/%7Euser//reports/../list.cfm";
    let tokens = "page=2&CFID=17&CFTOKEN=81726354&sort=name";
    let managed = |name: &str| query::key_is(name, "CFID") || query::key_is(name, "CFTOKEN");
    c.bench_function("wire/path/normal", |b| b.iter(|| path::normal(black_box(plain)).is_ok()));
    c.bench_function("wire/path/normal_of_an_odd_one", |b| {
        b.iter(|| path::normal(black_box(encoded)).is_ok())
    });
    c.bench_function("wire/query/cut_nothing", |b| {
        b.iter(|| query::cut(black_box("page=2&sort=name"), managed))
    });
    c.bench_function("wire/query/cut_a_pair", |b| b.iter(|| query::cut(black_box(tokens), managed)));
}

fn heads(c: &mut Criterion) {
    let headers = browser();
    let fields = Fields::of(&headers);
    let uri = Uri::from_static("/AppA/list.cfm?page=2");
    c.bench_function("wire/fields/of", |b| {
        b.iter(|| Fields::of(black_box(&headers)).cookie.first().is_some())
    });
    c.bench_function("wire/target/check", |b| {
        b.iter(|| target::check(Version::HTTP_11, &Method::GET, black_box(&uri), black_box(&fields)).is_ok());
    });
    c.bench_function("wire/hop/named", |b| b.iter(|| Named::by_request(black_box(&fields)).has("accept")));
    c.bench_function("wire/request/with", |b| {
        b.iter(|| Head::with(Method::GET, "/AppA/list.cfm?page=2", black_box(&headers)));
    });
}

fn clients(c: &mut Criterion) {
    let peer = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let mut headers = browser();
    headers.remove(COOKIE);
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9, 10.0.0.7"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    c.bench_function("wire/forwarded/resolve_a_stranger", |b| {
        b.iter(|| forwarded::resolve(peer, &[], black_box(&headers), false));
    });
    c.bench_function("wire/forwarded/resolve_a_chain", |b| {
        b.iter(|| forwarded::resolve(peer, black_box(&trusted), black_box(&headers), false));
    });
    let client = forwarded::resolve(peer, &[], &headers, false);
    c.bench_function("wire/forwarded/write", |b| {
        b.iter(|| {
            let mut head = Head::new(Method::GET, "/", 256);
            forwarded::write(&mut head, black_box(&client), "apps.example.org");
            head
        });
    });
}

criterion_group!(benches, cookies, urls, heads, clients);
criterion_main!(benches);
