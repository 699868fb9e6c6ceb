//! A request as it arrived: what it asks for, who asks, and how it came to ask.
//!
//! Invariant: nothing is routed, logged or believed before the framing rules have passed.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use http::request::Parts;
use http::{HeaderValue, Method, Uri, Version};

use super::error::Error;
use crate::bridge::app_session::Public;
use crate::net::stream::Peer;
use crate::setting::options::{Options, PublicScheme};
use crate::time::Timestamp;
use crate::wire::fetch::{self, Fetch};
use crate::wire::fields::Fields;
use crate::wire::forwarded::{self, Client};
use crate::wire::target::{self, Target};
use crate::wire::{cookie, path};

/// Longer targets are refused (the `http` crate's own limit is close above).
const MAX_TARGET: usize = 65_000;

/// The facts of a request. Most are views into its head, which stays as it came.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target, as it came.
    pub uri: &'a Uri,
    /// Its fields, as they came.
    pub fields: &'a Fields<'a>,
    /// The public host, lower case, without port.
    pub host: Cow<'a, str>,
    /// The public host and port, as the browser said them.
    pub authority: Cow<'a, str>,
    /// The path as routing reads it.
    pub normal: Cow<'a, str>,
    /// Who asks, and by which scheme.
    pub client: Client,
    /// What the browser says about why it asks.
    pub fetch: Fetch,
    /// True for a top-level navigation.
    pub navigation: bool,
    /// The Cookie field, joined.
    pub cookies: Option<Cow<'a, HeaderValue>>,
    /// When it began.
    pub now: Timestamp,
}

/// What a request asks for.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "all but one in a million are of it")]
pub enum Asks<'a> {
    /// `OPTIONS *`.
    ServerOptions,
    /// A path on a host.
    Resource(Inbound<'a>),
}

impl<'a> Inbound<'a> {
    /// Reads the head of a request from `peer`.
    ///
    /// # Errors
    /// Where it breaks a framing rule or its path is ambiguous.
    pub fn read(
        parts: &'a Parts,
        fields: &'a Fields<'a>,
        peer: &Peer,
        options: &Options,
        now: Timestamp,
    ) -> Result<Asks<'a>, Error> {
        let target = target::check(parts.version, &parts.method, &parts.uri, fields)?;
        let Target::Resource(resource) = target else { return Ok(Asks::ServerOptions) };
        if resource.path.len() + resource.query.map_or(0, str::len) > MAX_TARGET {
            return Err(Error::UriTooLong);
        }
        if !peer.may_ask_for(&resource.host) {
            return Err(Error::Misdirected);
        }
        let mut client = forwarded::resolve(peer.ip(), &options.trusted_proxies, fields.all, peer.is_tls());
        client.https = match options.public_scheme {
            PublicScheme::Auto => client.https,
            PublicScheme::Http => false,
            PublicScheme::Https => true,
        };
        let (authority, host) = match &client.host {
            Some(said) => {
                let host = target::split_authority(said).map_or("", |(host, _)| host).to_ascii_lowercase();
                (Cow::Owned(said.clone()), Cow::Owned(host))
            }
            None => (Cow::Borrowed(resource.authority), resource.host),
        };
        let fetch = Fetch::of(fields);
        let safe = matches!(parts.method, Method::GET | Method::HEAD);
        let navigation = safe && fetch::is_navigation(&parts.method, fetch, fields.accept.first());
        Ok(Asks::Resource(Self {
            method: &parts.method,
            uri: &parts.uri,
            fields,
            host,
            authority,
            normal: path::normal(resource.path)?,
            client,
            fetch,
            navigation,
            cookies: cookie::line(fields),
            now,
        }))
    }

    /// The public path, raw.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The query, raw.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
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

    /// True where it came to the public origin `public`.
    #[must_use]
    pub fn is_at(&self, public: &Public) -> bool {
        *public.authority == *self.authority && public.https == self.client.https
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
