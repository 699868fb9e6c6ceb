//! The framing rules that every request passes before it is routed, on data: target, Host, body length.
//!
//! Invariant: a request of which two servers could read two different hosts, targets or bodies is a fault.
//! What is used afterwards is what was checked, never the header again.

use std::borrow::Cow;

use http::{Method, Uri, Version};

use super::fields::{Fields, Found};
use super::hop;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `OPTIONS *`: asks about the proxy, which answers itself.
    ServerOptions,
    /// A path on a host.
    Resource(Resource<'a>),
}

/// A path on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The host in lower case, without port and trailing dot; empty for HTTP/1.0 without a Host.
    pub host: Cow<'a, str>,
    /// Host and port as the client gave them.
    pub authority: &'a str,
    /// Begins with `/`; raw, without the query.
    pub path: &'a str,
    /// Raw, without its `?`.
    pub query: Option<&'a str>,
}

/// Why a request is refused: 400 and the connection closed, but for `Method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// CONNECT, which no reverse proxy serves, and TRACE, whose answer would show the cookies that the proxy put in
    /// (RFC 9110, 9.3.8): 405.
    #[error("that method is not served")]
    Method,
    /// HTTP/0.9 or unknown.
    #[error("unsupported HTTP version")]
    Version,
    /// Neither origin-form nor an absolute http(s) URL.
    #[error("invalid request target")]
    Target,
    /// No Host, or several.
    #[error("there must be exactly one Host")]
    HostCount,
    /// No valid `host[:port]`.
    #[error("invalid Host")]
    Host,
    /// Host and target name different authorities.
    #[error("Host and target differ")]
    HostMismatch,
    /// Transfer-Encoding that is not one `chunked` on HTTP/1.1.
    #[error("invalid Transfer-Encoding")]
    TransferEncoding,
    /// Content-Length that is repeated, no number, or beside Transfer-Encoding.
    #[error("invalid Content-Length")]
    ContentLength,
    /// Upgrade with a request body: its bytes could be read as the tunnel's.
    #[error("Upgrade with a body")]
    UpgradeBody,
}

/// Checks rules a (Host), b (body length) and d (target) of a request head and returns what it asks for.
pub fn check<'a>(
    version: Version,
    method: &Method,
    uri: &'a Uri,
    fields: &Fields<'a>,
) -> Result<Target<'a>, Fault> {
    if version == Version::HTTP_09 {
        return Err(Fault::Version);
    }
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Fault::Method);
    }
    check_body(version, fields)?;
    let (authority, host) = authority(version, uri, fields.host)?;
    if uri.path() == "*" && uri.authority().is_none() {
        return if method == Method::OPTIONS { Ok(Target::ServerOptions) } else { Err(Fault::Target) };
    }
    if !uri.path().starts_with('/') {
        return Err(Fault::Target);
    }
    Ok(Target::Resource(Resource { host: canonical(host), authority, path: uri.path(), query: uri.query() }))
}

/// Rule e: true for a header name with `_`, which some servers read as `-`.
#[must_use]
pub fn is_odd_name(name: &str) -> bool {
    name.as_bytes().contains(&b'_')
}

/// Host and port of `host[:port]`; `None` unless the host is a name, an IPv4 address or a bracketed IPv6
/// address, and the port 1 to 65535. User information, escapes and an empty port are not valid here.
pub fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let host = authority.get(..address.len() + 2)?;
            (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        None => match memchr::memchr(b':', authority.as_bytes()) {
            Some(at) => (authority.get(..at)?, authority.get(at + 1..)),
            None => (authority, None),
        },
    };
    let is_name = |host: &str| {
        host.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'))
            && host.bytes().next().is_some_and(|first| first != b'.')
    };
    if !host.starts_with('[') && !is_name(host) {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(port) if port.len() <= 5 && port.bytes().all(|octet| octet.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok().filter(|port| *port > 0)?)))
        }
        Some(_) => None,
    }
}

/// A host as it is compared: lower case, without the dot at its end.
fn canonical(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The authority, and the host in it.
fn authority<'a>(version: Version, uri: &'a Uri, fields: Found<'a>) -> Result<(&'a str, &'a str), Fault> {
    let of_target = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => Some(authority.as_str()),
        // HTTP/2 has the authority apart from the path; in HTTP/1 this is authority-form, which is CONNECT's.
        (None, Some(authority)) if version >= Version::HTTP_2 => Some(authority.as_str()),
        (None, None) => None,
        _ => return Err(Fault::Target),
    };
    let host = fields.first().map(|value| value.to_str().map_err(|_| Fault::Host)).transpose()?;
    if fields.is_repeated() || (host.is_none() && version == Version::HTTP_11) {
        return Err(Fault::HostCount);
    }
    match (of_target, host) {
        (None, None) if version == Version::HTTP_10 => Ok(("", "")),
        (None, None) => Err(Fault::HostCount),
        (Some(one), None) | (None, Some(one)) => {
            split_authority(one).map(|(host, _)| (one, host)).ok_or(Fault::Host)
        }
        (Some(target), Some(said)) => same_authority(target, said, uri.scheme_str()).map(|host| (said, host)),
    }
}

fn same_authority<'a>(target: &str, host: &'a str, scheme: Option<&str>) -> Result<&'a str, Fault> {
    let default = if scheme == Some("http") { 80 } else { 443 };
    let (target_host, target_port) = split_authority(target).ok_or(Fault::Host)?;
    let (host, port) = split_authority(host).ok_or(Fault::Host)?;
    let same = canonical(target_host).eq_ignore_ascii_case(&canonical(host))
        && target_port.unwrap_or(default) == port.unwrap_or(default);
    if same { Ok(host) } else { Err(Fault::HostMismatch) }
}

/// Rule b, and no body behind an Upgrade.
fn check_body(version: Version, fields: &Fields<'_>) -> Result<(), Fault> {
    let coding = fields.transfer_encoding.first();
    if let Some(coding) = coding {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if version != Version::HTTP_11 || fields.transfer_encoding.is_repeated() || !chunked {
            return Err(Fault::TransferEncoding);
        }
    }
    let mut has_body = coding.is_some();
    if let Some(length) = fields.content_length.first() {
        let digits = length.as_bytes();
        let is_number = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        if coding.is_some() || fields.content_length.is_repeated() || !is_number {
            return Err(Fault::ContentLength);
        }
        has_body = digits.iter().any(|&digit| digit != b'0');
    }
    // An Upgrade that is no offer to us is not passed on either, so that its body is a body.
    if has_body && hop::upgrade(fields.all).is_some() { Err(Fault::UpgradeBody) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
