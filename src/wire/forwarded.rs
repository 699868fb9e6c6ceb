//! Who the client is, by the peer's address and what trusted proxies add: X-Forwarded-* and Forwarded (RFC
//! 7239).
//!
//! Invariant: a forwarding header counts only as far as an unbroken chain of trusted peers vouches for it,
//! and an app never sees one that a stranger wrote.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::octets;
use super::request::Head;
use super::target::split_authority;
use crate::digits;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// A client as the app should see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address: the first hop, from right to left, that is not trusted.
    pub address: IpAddr,
    /// The trusted hops between it and us, the nearest last.
    pub via: SmallVec<[IpAddr; 2]>,
    /// Whether it came to the outermost trusted hop, or to us, over TLS.
    pub https: bool,
    /// The host it asked for, as a trusted proxy tells: `host[:port]`.
    pub host: Option<String>,
    /// The port it came to, as a trusted proxy tells.
    pub port: Option<u16>,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
}

/// Finds the client. `peer` is `None` for a unix socket, which counts as 127.0.0.1: it is trusted where
/// `trusted` covers that. Without a trusted peer no header is read. `X-Forwarded-For` goes before
/// `Forwarded`.
pub fn resolve(peer: Option<IpAddr>, trusted: &[IpNet], headers: &HeaderMap, tls: bool) -> Client {
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = Client {
        address: peer,
        via: SmallVec::new(),
        https: tls,
        host: None,
        port: None,
        trusted: is_trusted(&peer),
    };
    if !client.trusted {
        return client;
    }
    let elements = if headers.contains_key(FOR) { None } else { Some(elements(headers)) };
    let hops: SmallVec<[Option<IpAddr>; 4]> = match &elements {
        None => list(headers, &FOR).iter().map(|hop| address(hop)).collect(),
        Some(elements) => elements.iter().map(|element| element.node.as_deref().and_then(address)).collect(),
    };
    let mut crossed = 1;
    for hop in hops.iter().rev() {
        // An address that cannot be read ends the walk: whoever sent it is the last that is known.
        let Some(hop) = hop else { break };
        client.via.insert(0, client.address);
        client.address = *hop;
        if !is_trusted(hop) {
            break;
        }
        crossed += 1;
    }
    match elements.filter(|elements| !elements.is_empty()) {
        Some(elements) => client.read_element(&elements, crossed),
        None => client.read_lists(headers, crossed),
    }
    client
}

/// Writes what is known of the client: X-Forwarded-For, -Proto, -Host, -Port, X-Real-IP and Forwarded. `authority` is the
/// host that the client asked for; the chain holds the client and the trusted hops, the peer last. What others say under
/// these names ([`Field::Forwarded`](super::fields::Field::Forwarded)) goes to no app; the rest of the family
/// ([`Field::ForwardedToo`](super::fields::Field::ForwardedToo)) only where a trusted proxy sent it.
pub fn write(head: &mut Head, client: &Client, authority: &str) {
    let authority = client.host.as_deref().unwrap_or(authority);
    let port = client.port.or_else(|| split_authority(authority).and_then(|(_, port)| port));
    let port = port.unwrap_or(if client.https { 443 } else { 80 });
    head.put_with("x-forwarded-for", |out| {
        digits::address(out, client.address);
        for hop in &client.via {
            out.extend_from_slice(b", ");
            digits::address(out, *hop);
        }
    });
    head.put_with("x-real-ip", |out| digits::address(out, client.address));
    head.put_with("x-forwarded-proto", |out| {
        out.extend_from_slice(if client.https { b"https" } else { b"http" });
    });
    head.put_with("x-forwarded-host", |out| out.extend_from_slice(authority.as_bytes()));
    head.put_with("x-forwarded-port", |out| digits::number(out, port.into()));
    head.put_with("forwarded", |out| {
        node(out, client.address);
        if !authority.is_empty() {
            let quote: &[u8] =
                if memchr::memchr2(b':', b'[', authority.as_bytes()).is_some() { b"\"" } else { b"" };
            [b";host=", quote, authority.as_bytes(), quote]
                .iter()
                .for_each(|piece| out.extend_from_slice(piece));
        }
        out.extend_from_slice(if client.https { b";proto=https" } else { b";proto=http" });
        for hop in &client.via {
            out.extend_from_slice(b", ");
            node(out, *hop);
        }
    });
}

/// Whether two addresses count as one place: the same IPv4 address, or the same /64 of IPv6.
pub fn same_place(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one == other,
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            one.segments().iter().take(4).eq(other.segments().iter().take(4))
        }
        _ => false,
    }
}

impl Client {
    /// Host and scheme of the `Forwarded` element that the outermost trusted hop wrote.
    fn read_element(&mut self, elements: &[Element], crossed: usize) {
        let Some(element) = elements.get(elements.len().saturating_sub(crossed)) else { return };
        self.https = element.proto.as_deref().and_then(scheme).unwrap_or(self.https);
        self.host = element.host.clone().filter(|host| split_authority(host).is_some());
    }

    /// The same by X-Forwarded-*. A list that every hop extends has one entry a hop, a single entry was
    /// passed on.
    fn read_lists(&mut self, headers: &HeaderMap, crossed: usize) {
        let entry = |name: &HeaderName| {
            let mut entries = list(headers, name);
            let at = entries.len().saturating_sub(crossed);
            if at < entries.len() { Some(entries.swap_remove(at)) } else { None }
        };
        self.https = entry(&PROTO).as_deref().and_then(scheme).unwrap_or(self.https);
        self.host = entry(&HOST).filter(|host| split_authority(host).is_some());
        self.port = entry(&PORT).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    }
}

fn scheme(word: &str) -> Option<bool> {
    match word {
        _ if word.eq_ignore_ascii_case("https") || word.eq_ignore_ascii_case("wss") => Some(true),
        _ if word.eq_ignore_ascii_case("http") || word.eq_ignore_ascii_case("ws") => Some(false),
        _ => None,
    }
}

/// The entries of a comma-separated header, all fields in order. One that is not visible ASCII reads as
/// empty, so that the places of the others hold.
fn list(headers: &HeaderMap, name: &HeaderName) -> SmallVec<[String; 4]> {
    let fields = headers.get_all(name).iter().map(|field| field.to_str().unwrap_or_default());
    fields.flat_map(|field| field.split(',')).map(|entry| entry.trim().to_owned()).collect()
}

#[derive(Default)]
struct Element {
    node: Option<String>,
    host: Option<String>,
    proto: Option<String>,
}

/// The elements of all Forwarded fields; quoted strings may hold commas and semicolons.
fn elements(headers: &HeaderMap) -> SmallVec<[Element; 4]> {
    let mut out = SmallVec::new();
    for field in headers.get_all(FORWARDED) {
        let field = field.to_str().unwrap_or_default();
        for element in outside_quotes(field, b',') {
            out.push(element_of(element));
        }
    }
    out
}

fn element_of(text: &str) -> Element {
    let mut element = Element::default();
    for (name, value) in outside_quotes(text, b';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim();
        let value = match value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
            Some(inner) => inner.replace('\\', ""),
            None => value.to_owned(),
        };
        let slot = match name.trim() {
            name if name.eq_ignore_ascii_case("for") => &mut element.node,
            name if name.eq_ignore_ascii_case("host") => &mut element.host,
            name if name.eq_ignore_ascii_case("proto") => &mut element.proto,
            _ => continue,
        };
        *slot = Some(value);
    }
    element
}

fn outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().enumerate().skip(start).find(|&(_, octet)| {
            let here = octet == separator && !quoted;
            quoted ^= octet == b'"' && !escaped;
            escaped = quoted && octet == b'\\' && !escaped;
            here
        });
        next = end.map(|(at, _)| at + 1);
        Some(octets::text_at(text, &(start..end.map_or(text.len(), |(at, _)| at))))
    })
}

/// An address of a chain: bare, with a port, or bracketed.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, _) = rest.split_once(']')?;
        return inner.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn node(out: &mut Vec<u8>, address: IpAddr) {
    let (before, behind): (&[u8], &[u8]) =
        if address.is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    out.extend_from_slice(before);
    digits::address(out, address);
    out.extend_from_slice(behind);
}

#[cfg(test)]
mod tests;
