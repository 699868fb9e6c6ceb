//! Addresses in the config: where to listen, upstream servers, public hosts and paths.
//!
//! Each reader yields the one form that the rest of the program knows, or a [`Fault`] that says what to write
//! instead.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::options::{ListenText, OriginText};
use super::report::Finding;
use super::table::Text;
use super::tree::Findings;

/// What is wrong with an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    says: &'static str,
    /// What to write instead, where that can be told.
    instead: Option<String>,
}

impl Fault {
    const fn new(says: &'static str) -> Self {
        Self { says, instead: None }
    }

    fn instead(says: &'static str, instead: impl Into<String>) -> Self {
        Self { says, instead: Some(instead.into()) }
    }
}

/// `text` by `read`; a fault is reported under `title`.
pub(super) fn read<T>(
    text: &Text,
    title: &str,
    findings: &Findings,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Option<T> {
    match read(&text.text) {
        Ok(value) => Some(value),
        Err(fault) => {
            let label = match fault.instead.filter(|_| text.is_literal()) {
                Some(instead) => format!("{}: write \"{instead}\"", fault.says),
                None => fault.says.to_owned(),
            };
            findings.error(Finding::at(&text.span, title, label));
            None
        }
    }
}

/// `ip:port` or `unix:/path`.
pub(super) fn listen(text: &str) -> Result<ListenText, Fault> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if is_socket_path(path) {
            Ok(ListenText(text.into()))
        } else {
            Err(Fault::new("a socket's path is absolute: \"unix:/run/sessionbridge/http.sock\""))
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(ListenText(address.to_string().into()));
    }
    let scheme = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if let Some(rest) = scheme.filter(|rest| rest.trim_end_matches('/').parse::<SocketAddr>().is_ok()) {
        return Err(Fault::instead("an address has no scheme", rest.trim_end_matches('/')));
    }
    if let Some(port) = text.strip_prefix(':').or(Some(text)).filter(|port| port.parse::<u16>().is_ok()) {
        return Err(Fault::instead("an address is missing", format!("0.0.0.0:{port}")));
    }
    if let Some(port) = text.strip_prefix("localhost:").filter(|port| port.parse::<u16>().is_ok()) {
        return Err(Fault::instead("names are not resolved here", format!("127.0.0.1:{port}")));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Err(Fault::instead("a port is missing", SocketAddr::new(ip, 80).to_string()));
    }
    Err(Fault::new("write \"127.0.0.1:8080\", \"[::]:443\" or \"unix:/run/sessionbridge/http.sock\""))
}

/// `http://host:port` or `unix:/path`.
pub(super) fn upstream(text: &str) -> Result<OriginText, Fault> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if is_socket_path(path) {
            Ok(OriginText(text.into()))
        } else {
            Err(Fault::new("a socket's path is absolute: \"unix:/run/app.sock\""))
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(if authority(text).is_some() {
            Fault::instead("a scheme is missing", format!("http://{text}"))
        } else {
            Fault::new("write \"http://10.0.0.11:8500\" or \"unix:/run/app.sock\"")
        });
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(Fault::new("https to upstreams is not built yet in this version"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Fault::new("an upstream is \"http://..\" or \"unix:/..\""));
    }
    if rest.contains('@') {
        return Err(Fault::new("user and password have no place in an upstream's address"));
    }
    let (server, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let Some((host, port)) = authority(server) else {
        return Err(Fault::new("write host and port: \"http://10.0.0.11:8500\""));
    };
    let origin = format!("http://{host}:{}", port.unwrap_or(80));
    if !path.trim_end_matches('/').is_empty() {
        return Err(Fault::instead("an upstream is a server, without a path", origin));
    }
    Ok(OriginText(origin.into()))
}

/// A server that sessions are kept on. Not `Debug`: there may be a password in it.
pub(super) struct StoreServer {
    pub(super) tls: bool,
    /// `redis[s]://[user:password@]host:port/database`, with everything escaped that could be misread.
    pub(super) url: String,
    pub(super) database: u16,
}

/// `valkey[s]://` or `redis[s]://`, `[user][:password]@host[:port][/database]`. User and password may hold any sign as it is, since
/// they come from files; of `%` and two hexadecimal digits they are what these stand for.
pub(super) fn store(text: &str, usual_port: u16) -> Result<StoreServer, Fault> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match authority(text) {
            Some(_) => Fault::instead("a scheme is missing", format!("valkey://{text}")),
            None => Fault::new("write \"valkey://valkey.example.org:6379/0\""),
        });
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "valkey" | "redis" => false,
        "valkeys" | "rediss" => true,
        _ => return Err(Fault::new("a server is \"valkey://..\" or, over TLS, \"valkeys://..\"")),
    };
    // The last `@`: a password may have others.
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    if rest.contains('?') {
        return Err(Fault::new("there are no options behind `?` here"));
    }
    if rest.contains('#') {
        return Err(Fault::new("there is nothing behind `#` here: certificates are always checked"));
    }
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Some((host, port)) = authority(server) else {
        return Err(Fault::new("write host and port: \"valkey://valkey.example.org:6379/0\""));
    };
    let Some(database) = (if path.is_empty() { Some(0) } else { path.parse::<u16>().ok() }) else {
        return Err(Fault::new("what follows the server is the number of a database: \"/0\""));
    };
    let port = port.unwrap_or(usual_port);
    let scheme = if tls { "rediss" } else { "redis" };
    let user = match user.map(|user| user.split_once(':')) {
        None => String::new(),
        Some(Some((user, password))) if !password.is_empty() => userinfo(user, password),
        Some(_) => return Err(Fault::new("before `@` are `user:password`, or `:password` alone")),
    };
    Ok(StoreServer { tls, url: format!("{scheme}://{user}{host}:{port}/{database}"), database })
}

/// `user:password@`, escaped.
fn userinfo(user: &str, password: &str) -> String {
    let mut out = String::with_capacity(user.len() + 3 * password.len() + 2);
    escape(user, &mut out);
    out.push(':');
    escape(password, &mut out);
    out.push('@');
    out
}

/// All but letters, digits and `-._~` is escaped (RFC 3986 2.3); what is escaped stays.
fn escape(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_escape = *byte == b'%'
            && bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if is_escape || byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Host (lower case) and port of `host`, `host:port`, `[v6]:port`.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (format!("[{address}]"), after.strip_prefix(':').or_else(|| after.is_empty().then_some(""))?)
        }
        None => match text.split_once(':') {
            Some((_, "")) => return None,
            Some((host, port)) => (host.to_owned(), port),
            None => (text.to_owned(), ""),
        },
    };
    if !host.starts_with('[') && !is_host_name(&host) {
        return None;
    }
    let port = match port {
        "" => None,
        port => Some(port.parse::<u16>().ok().filter(|port| *port != 0 && !text.ends_with(':'))?),
    };
    Some((host.to_ascii_lowercase(), port))
}

/// Letters, digits, `-`, `_` and dots, with something between the dots.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        })
}

fn is_socket_path(path: &str) -> bool {
    path.len() > 1 && path.starts_with('/') && !path.contains('\0')
}

/// A public host: lower case, without port and dot at its end.
pub(super) fn host(text: &str) -> Result<Box<str>, Fault> {
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':']).next().unwrap_or(rest);
        return Err(Fault::instead("a host has no scheme", name));
    }
    if let Some((name, _)) = text.split_once('/') {
        return Err(Fault::instead("a host has no path", name));
    }
    if text.contains('*') {
        return Err(Fault::new("wildcards are no hosts: leave `hosts` out for any host"));
    }
    match authority(text) {
        Some((name, Some(_))) => Err(Fault::instead("a host is named without its port", name)),
        Some((name, None)) => Ok(name.trim_end_matches('.').into()),
        None => Err(Fault::new("this is no host name; write other scripts as xn--..")),
    }
}

/// The public path of an app: `/AppA/`.
pub(super) fn mount(text: &str) -> Result<(), Fault> {
    path(text)?;
    if text.contains('?') {
        return Err(Fault::new("an app is found by its path alone, without a query"));
    }
    if text.contains(['*', '{', '}']) {
        return Err(Fault::new("this is a prefix, not a pattern: \"/AppA/\" covers all that is below it"));
    }
    if text.contains(['%', ';', '\\']) {
        return Err(Fault::new("write the path decoded, without `%`, `;` and `\\`"));
    }
    if text.contains("//") || text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Fault::new("empty segments, `.` and `..` never reach an app"));
    }
    Ok(())
}

/// A public path, perhaps with a query.
pub(super) fn path(text: &str) -> Result<(), Fault> {
    if text.contains("://") {
        return Err(Fault::new("this is a path, without scheme and host"));
    }
    if !text.starts_with('/') {
        return Err(Fault::instead("a path begins with `/`", format!("/{text}")));
    }
    if text.contains('#') || text.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
        return Err(Fault::new("a path has no blanks, control characters and `#`"));
    }
    if text.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(Fault::new("this path cannot be asked for"));
    }
    Ok(())
}

/// True for an upstream whose address is an IP address that is routed on the Internet.
pub(super) fn is_public(origin: &OriginText) -> bool {
    let server = origin.as_str().strip_prefix("http://").unwrap_or_default();
    match server.parse::<SocketAddr>().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 224 || ip.is_documentation() || (a == 198 && (b & 0xfe) == 18);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || reserved)
        }
        // 2000::/3 is what is given out (RFC 4291 2.4); 2001:db8::/32 is for documents.
        Ok(IpAddr::V6(ip)) => {
            let [first, second, ..] = ip.segments();
            first & 0xe000 == 0x2000 && !(first == 0x2001 && second == 0xdb8)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for good in ["127.0.0.1:8080", "[::]:443", "unix:/run/x.sock"] {
            assert_eq!(listen(good).unwrap().as_str(), good);
        }
        let instead = |text: &str| listen(text).unwrap_err().instead;
        assert_eq!(instead("8080").unwrap(), "0.0.0.0:8080");
        assert_eq!(instead(":8080").unwrap(), "0.0.0.0:8080");
        assert_eq!(instead("localhost:80").unwrap(), "127.0.0.1:80");
        assert_eq!(instead("http://1.2.3.4:80/").unwrap(), "1.2.3.4:80");
        assert_eq!(instead("::1").unwrap(), "[::1]:80");
        for bad in ["", "unix:", "unix:relative", "nonsense", "1.2.3.4:99999"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn upstreams_are_servers() {
        let good = |text: &str| upstream(text).unwrap().as_str().to_owned();
        assert_eq!(good("http://App.Local:8500/"), "http://app.local:8500");
        assert_eq!(good("http://app"), "http://app:80");
        assert_eq!(good("http://[::1]:81"), "http://[::1]:81");
        assert_eq!(good("unix:/run/a"), "unix:/run/a");
        assert_eq!(upstream("10.0.0.1:80").unwrap_err().instead.unwrap(), "http://10.0.0.1:80");
        assert_eq!(upstream("http://a:1/x?y").unwrap_err().instead.unwrap(), "http://a:1");
        for bad in [
            "https://a",
            "ftp://a",
            "http://",
            "http://a:b",
            "http://a:",
            "http://a:0",
            "http://u:p@a",
            "http://a b",
            "unix:a",
            "http://[x]",
        ] {
            assert!(upstream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stores_servers_keep_any_password() {
        let good = |text: &str| store(text, 6379).map(|server| server.url).unwrap_or_default();
        assert_eq!(good("valkey://Valkey.Local"), "redis://valkey.local:6379/0");
        assert_eq!(good("REDISS://h:1/3"), "rediss://h:1/3");
        assert_eq!(good("valkeys://[::1]:7/"), "rediss://[::1]:7/0");
        assert_eq!(good("redis://bridge:p%40ss@h"), "redis://bridge:p%40ss@h:6379/0");
        assert_eq!(good("redis://:a/b+c=@d#?:%zz@h:1"), "redis://:a%2Fb%2Bc%3D%40d%23%3F%3A%25zz@h:1/0");
        assert_eq!(
            store("h:6379", 1).err().and_then(|fault| fault.instead).as_deref(),
            Some("valkey://h:6379")
        );
        for bad in [
            "",
            "http://h",
            "valkey://",
            "valkey://h:0",
            "valkey://h/x",
            "valkey://h/0/1",
            "valkey://h?protocol=resp3",
            "valkeys://h/#insecure",
            "valkey://a b",
            "unix:/run/valkey.sock",
            "redis://password@h",
            "redis://me:@h",
        ] {
            assert!(store(bad, 6379).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names() {
        assert_eq!(&*host("Apps.Example.ORG.").unwrap(), "apps.example.org");
        assert_eq!(&*host("[::1]").unwrap(), "[::1]");
        assert_eq!(host("a.example:8080").unwrap_err().instead.unwrap(), "a.example");
        assert_eq!(host("https://a.example:8080/x").unwrap_err().instead.unwrap(), "a.example");
        for bad in ["", "*.example.org", "a/b", "a..b", "m\u{fc}nchen.de"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_plain() {
        for good in ["/", "/AppA", "/AppA/", "/a/b.c/"] {
            assert!(mount(good).is_ok(), "{good}");
        }
        assert_eq!(mount("AppA/").unwrap_err().instead.unwrap(), "/AppA/");
        for bad in ["", "/a?b", "/a*", "/a//b", "/a/../b", "/a%20b", "/a b", "http://a/b", "/a;b"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn public_addresses_are_told_from_private_ones() {
        let public = |text: &str| is_public(&upstream(text).unwrap());
        assert!(public("http://8.8.8.8:80"));
        assert!(public("http://[2a00::1]:80"));
        for private in [
            "http://10.1.1.1:1",
            "http://127.0.0.1:1",
            "http://192.168.0.1",
            "http://172.16.0.1",
            "http://[fd00::1]:1",
            "http://[::1]:1",
            "http://app:1",
            "unix:/x",
            "http://100.64.0.1",
        ] {
            assert!(!public(private), "{private}");
        }
    }
}
