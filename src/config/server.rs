//! `listen` and `[server]` with its sub-tables.
//!
//! Every value has a default that is right for most; the ones here are the documented ones.

use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::address;
use super::options::ListenText;
use super::report::Finding;
use super::table::{Table, is_text};
use super::units;
use crate::setting::options::{Options, PublicScheme, Rate, Timeouts};

/// All of `[server]`.
pub(super) struct Server {
    pub(super) threads: usize,
    pub(super) max_connections: usize,
    pub(super) max_header_bytes: usize,
    pub(super) drain_timeout: Duration,
    pub(super) options: Options,
}

/// Reads `listen` of the top table.
pub(super) fn listen(top: &Table<'_>) -> Vec<ListenText> {
    if !top.has("listen") {
        top.findings.error(Finding {
            title: "`listen` is missing".to_owned(),
            at: None,
            also: None,
            help: Some("say where browsers connect: `listen = \"127.0.0.1:8080\"`".to_owned()),
        });
    }
    let mut list: Vec<ListenText> = Vec::new();
    for text in top.texts("listen").unwrap_or_default() {
        let title = "`listen` has an address that cannot be used";
        let Some(address) = address::read(&text, title, top.findings, address::listen) else { continue };
        if list.contains(&address) {
            top.findings.error(Finding::at(&text.span, "`listen` has an address twice", "here again"));
        } else {
            list.push(address);
        }
    }
    if let Some(node) =
        top.node("listen").filter(|node| matches!(&node.value, super::tree::Value::List(l) if l.is_empty()))
    {
        top.findings.error(Finding::at(&node.span, "`listen` is empty", "nobody could connect"));
    }
    list
}

/// Reads `[server]` of the top table.
pub(super) fn read(top: &Table<'_>) -> Server {
    let mut server = defaults();
    let Some(table) = top.table("server", "`[server]`") else { return server };
    let options = &mut server.options;
    set(&mut server.threads, table.whole("threads", 0));
    options.trusted_proxies = networks(&table);
    options.allow_headers = header_names(&table);
    table.unbuilt_unless("proxy_protocol", |value| is_text(value, "off"));
    let schemes =
        [("auto", PublicScheme::Auto), ("http", PublicScheme::Http), ("https", PublicScheme::Https)];
    set(&mut options.public_scheme, table.choice("public_scheme", &schemes));
    set(&mut server.max_connections, table.whole("max_connections", 1));
    set(&mut server.max_header_bytes, table.unit("max_header_bytes", "a size", header_bytes));
    set(
        &mut options.max_body,
        table.unit_or_off("max_body", "a size", units::size).map(super::table::OrOff::on),
    );
    set(&mut server.drain_timeout, table.duration("drain_timeout"));
    if let Some(timeouts) = table.table("timeouts", "`[server.timeouts]`") {
        read_timeouts(timeouts, &mut options.timeouts);
    }
    if let Some(limits) = table.table("limits", "`[server.limits]`") {
        if let Some(rate) = limits.table("new_sessions", "`server.limits.new_sessions`") {
            read_rate(rate, &mut options.new_sessions);
        }
        limits.finish();
    }
    table.finish();
    server
}

/// Puts `value`, where there is one, into `place`.
pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// What holds where `[server]` says nothing.
fn defaults() -> Server {
    let secs = Duration::from_secs;
    Server {
        threads: 0,
        max_connections: 20_000,
        max_header_bytes: 32 << 10,
        drain_timeout: secs(30),
        options: Options {
            trusted_proxies: Vec::new(),
            allow_headers: Vec::new(),
            public_scheme: PublicScheme::Auto,
            max_body: Some(100 << 20),
            timeouts: Timeouts {
                header: secs(10),
                body_stall: secs(30),
                idle: secs(75),
                connect: secs(3),
                first_byte: secs(300),
                stream_idle: secs(3600),
            },
            new_sessions: Rate { per_second: 10.0, burst: 50 },
        },
    }
}

/// A size that a parser of heads can work with.
fn header_bytes(text: &str) -> Result<usize, String> {
    let size = units::size(text)?;
    // hyper's buffer has a least size of 8 KiB, and what one head may take is taken for every connection.
    usize::try_from(size)
        .ok()
        .filter(|size| (8 << 10..=1 << 20).contains(size))
        .ok_or_else(|| "it must lie between \"8KiB\" and \"1MiB\"".to_owned())
}

fn networks(table: &Table<'_>) -> Vec<IpNet> {
    let mut list = Vec::new();
    for text in table.texts("trusted_proxies").unwrap_or_default() {
        let alone = || text.text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        match text.text.parse::<IpNet>().ok().or_else(alone) {
            Some(network) => list.push(network),
            None => table.findings.error(Finding::at(
                &text.span,
                "`trusted_proxies` takes networks",
                "write \"10.0.0.0/8\" or \"192.0.2.7\"",
            )),
        }
    }
    list
}

fn header_names(table: &Table<'_>) -> Vec<HeaderName> {
    let mut list = Vec::new();
    for text in table.texts("allow_headers").unwrap_or_default() {
        match text.text.parse::<HeaderName>() {
            Ok(name) => list.push(name),
            Err(_) => table.findings.error(Finding::at(
                &text.span,
                "`allow_headers` takes names of headers",
                "write \"SM_USER\"",
            )),
        }
    }
    list
}

fn read_timeouts(table: Table<'_>, timeouts: &mut Timeouts) {
    set(&mut timeouts.header, table.duration("header"));
    set(&mut timeouts.body_stall, table.duration("body_stall"));
    set(&mut timeouts.idle, table.duration("idle"));
    set(&mut timeouts.connect, table.duration("connect"));
    set(&mut timeouts.first_byte, table.duration("first_byte"));
    set(&mut timeouts.stream_idle, table.duration("stream_idle"));
    table.finish();
}

fn read_rate(table: Table<'_>, rate: &mut Rate) {
    set(&mut rate.per_second, table.unit("rate", "a rate", units::rate));
    set(&mut rate.burst, table.whole("burst", 1).and_then(|burst| u32::try_from(burst).ok()));
    let _: Option<()> = table.choice("per", &[("client-ip", ())]);
    table.finish();
}
