//! A request as it arrived: what it asks for, who asks, and how it came to ask.
//!
//! Invariant: nothing is routed, logged or believed before the framing rules have passed.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderValue, Method, Uri, Version};

use super::error::Error;
use super::options::{Options, PublicScheme};
use crate::net::stream::Peer;
use crate::time::Timestamp;
use crate::wire::fetch::{self, Fetch};
use crate::wire::forwarded::{self, Client};
use crate::wire::target::{self, Target};
use crate::wire::{cookie, path};

/// Longer targets are refused (the `http` crate's own limit is close above).
const MAX_TARGET: usize = 65_000;

/// The facts of a request.
#[derive(Debug)]
pub struct Inbound {
    /// Its method.
    pub method: Method,
    /// Its target, as it came.
    pub uri: Uri,
    /// The public host, lower case, without port.
    pub host: String,
    /// The public host and port, as the browser said them.
    pub authority: String,
    /// The path as routing reads it.
    pub normal: String,
    /// Who asks, and by which scheme.
    pub client: Client,
    /// What the browser says about why it asks.
    pub fetch: Fetch,
    /// True for a top-level navigation.
    pub navigation: bool,
    /// The Cookie field, joined.
    pub cookies: Option<HeaderValue>,
    /// When it began.
    pub now: Timestamp,
}

/// What a request asks for.
#[derive(Debug)]
pub enum Asks {
    /// `OPTIONS *`.
    ServerOptions,
    /// A path on a host.
    Resource(Box<Inbound>),
}

impl Inbound {
    /// Reads the head of a request from `peer`.
    ///
    /// # Errors
    /// Where it breaks a framing rule or its path is ambiguous.
    pub fn read(
        parts: &mut http::request::Parts,
        peer: &Peer,
        options: &Options,
        now: Timestamp,
    ) -> Result<Asks, Error> {
        let target = target::check(parts.version, &parts.method, &parts.uri, &parts.headers)?;
        let Target::Resource(resource) = target else { return Ok(Asks::ServerOptions) };
        if resource.path.len() + resource.query.map_or(0, str::len) > MAX_TARGET {
            return Err(Error::UriTooLong);
        }
        if !peer.may_ask_for(&resource.host) {
            return Err(Error::Misdirected);
        }
        let address = peer.ip();
        let mut client = forwarded::resolve(address, &options.trusted_proxies, &parts.headers, peer.is_tls());
        client.https = match options.public_scheme {
            PublicScheme::Auto => client.https,
            PublicScheme::Http => false,
            PublicScheme::Https => true,
        };
        let authority = client.host.clone().unwrap_or_else(|| resource.authority.to_owned());
        let host = match &client.host {
            Some(host) => target::split_authority(host).map_or("", |(host, _)| host).to_ascii_lowercase(),
            None => resource.host.into_owned(),
        };
        let normal = path::normal(resource.path)?.into_owned();
        let fetch = Fetch::of(&parts.headers);
        let safe = matches!(parts.method, Method::GET | Method::HEAD);
        let navigation =
            safe && fetch::is_navigation(&parts.method, fetch, parts.headers.get(http::header::ACCEPT));
        let cookies = cookie::line(&parts.headers);
        let allowed: &[_] = if client.trusted { &options.allow_headers } else { &[] };
        target::drop_odd_names(&mut parts.headers, allowed);
        Ok(Asks::Resource(Box::new(Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            host,
            authority,
            normal,
            client,
            fetch,
            navigation,
            cookies,
            now,
        })))
    }

    /// The public path, raw.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, raw.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Where the request came from.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.client.address
    }

    /// `https` or `http`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.client.https { "https" } else { "http" }
    }

    /// An absolute URL of this host.
    #[must_use]
    pub fn absolute(&self, path_and_query: &str) -> String {
        format!("{}://{}{path_and_query}", self.scheme(), self.authority)
    }

    /// True for methods that change nothing.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }
}

/// The address of a peer without one: a unix socket's is this machine.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// True for HTTP/1.0, to which no 1xx and no chunk may be sent.
#[must_use]
pub fn is_old(version: Version) -> bool {
    version < Version::HTTP_11
}
