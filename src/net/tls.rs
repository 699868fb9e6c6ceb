//! TLS towards clients: certificates, which of them a client gets, the handshake.
//!
//! Invariant: a [`Certificate`] is usable when it is made: it can be read, is valid at that moment and fits its key. No
//! request is ever early data: nothing that a client says counts before the handshake is over.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::Stream;

/// What HTTP/2 is called in a handshake (RFC 9113, 3.1).
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// The first byte of a record that carries a handshake (RFC 8446, 5.1).
pub(super) const HANDSHAKE: u8 = 22;

/// A stream under TLS.
pub(super) type Secured = TlsStream<Metered>;

/// How TLS is spoken here: cheap to clone, shared by all threads, so that a ticket of one is good at every other.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Spoken>>);

/// How it is spoken in handshakes that begin now.
#[derive(Clone)]
struct Spoken {
    config: Arc<ServerConfig>,
    certificates: Certificates,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeastVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A certificate with its chain, and its key.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Names,
}

/// Why a certificate cannot be used. Nothing here shows what a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// There is none.
    #[error("there is no certificate in it")]
    Empty,
    /// It is no certificate, or none of a server's.
    #[error("its first certificate cannot be read")]
    Unreadable,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// The key is of a kind that is not known here.
    #[error("the key cannot be used")]
    Key,
    /// The key is another certificate's.
    #[error("the key does not fit the certificate")]
    Misfit,
}

/// The host names of one certificate, lower case; `*.example.org` stands for one more label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names(Arc<HashSet<Box<str>>>);

/// All certificates, in the order of the config.
#[derive(Clone)]
struct Certificates(Arc<[Certificate]>);

/// What was agreed on in a handshake, as far as requests go.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The host that the client named (SNI), lower case.
    host: Option<Box<str>>,
    /// Those of the certificate that it was shown.
    names: Names,
}

/// A client after its handshake.
pub(super) struct Greeted {
    /// What it says from now on.
    pub(super) stream: Stream,
    /// Who it is for.
    pub(super) greeting: Greeting,
    /// True where it chose HTTP/2.
    pub(super) http2: bool,
}

impl Names {
    fn of(certificate: &webpki::EndEntityCert<'_>) -> Self {
        Self(Arc::new(certificate.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect()))
    }

    fn exactly(&self, host: &str) -> bool {
        self.0.contains(host)
    }

    fn by_wildcard(&self, host: &str) -> bool {
        host.split_once('.').is_some_and(|(_, parent)| self.0.contains(format!("*.{parent}").as_str()))
    }
}

impl Certificate {
    /// The first of `chain` with its `key`, looked at at `now`, which counts from 1970.
    ///
    /// # Errors
    /// See [`CertificateFault`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: Duration,
    ) -> Result<Self, CertificateFault> {
        let (own, issuers) = chain.split_first().ok_or(CertificateFault::Empty)?;
        let names =
            Names::of(&webpki::EndEntityCert::try_from(own).map_err(|_| CertificateFault::Unreadable)?);
        let parsed = ParsedCertificate::try_from(own).map_err(|_| CertificateFault::Unreadable)?;
        let provider = aws_lc_rs::default_provider();
        in_its_time(&parsed, issuers, now, &provider)?;
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateFault::Misfit,
            _ => CertificateFault::Key,
        })?;
        Ok(Self { key: Arc::new(key), names })
    }

    /// True where it names a host: another can only be the one for clients that name none.
    #[must_use]
    pub fn names_hosts(&self) -> bool {
        !self.names.0.is_empty()
    }
}

/// Whether `parsed` is valid at `now`. Nobody is trusted here, so whom it was issued by stays open: a server shows its
/// certificate, it is the client who believes it.
fn in_its_time(
    parsed: &ParsedCertificate<'_>,
    issuers: &[CertificateDer<'static>],
    now: Duration,
    provider: &CryptoProvider,
) -> Result<(), CertificateFault> {
    let nobody = RootCertStore::empty();
    let algorithms = provider.signature_verification_algorithms.all;
    let now = UnixTime::since_unix_epoch(now);
    match verify_server_cert_signed_by_trust_anchor(parsed, &nobody, issuers, now, algorithms) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Err(CertificateFault::Expired),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Err(CertificateFault::NotYetValid),
        _ => Ok(()),
    }
}

impl Certificates {
    /// The one for `host`: that which names it, else that with a wildcard for it, else the first.
    fn choose(&self, host: Option<&str>) -> Option<&Certificate> {
        let named = host.and_then(|host| {
            let exactly = self.0.iter().find(|own| own.names.exactly(host));
            exactly.or_else(|| self.0.iter().find(|own| own.names.by_wildcard(host)))
        });
        named.or_else(|| self.0.first())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|own| &own.names)).finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|own| Arc::clone(&own.key))
    }
}

impl Greeting {
    /// True for the host that the client named, and all that the certificate names; without a name, on either side, for
    /// all.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let same = self.host.as_deref().is_none_or(|named| named == host);
        same || host.is_empty() || self.names.exactly(host) || self.names.by_wildcard(host)
    }
}

impl Tls {
    /// Speaks TLS with `certificates`, of which the first is for clients that name no host, or one that none names.
    ///
    /// # Errors
    /// Where the crypto library gives no randomness for the ticket keys.
    pub fn new(certificates: Vec<Certificate>, least: LeastVersion) -> Result<Self, rustls::Error> {
        let certificates = Certificates(certificates.into());
        let versions: &[_] = match least {
            LeastVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            LeastVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates.clone()));
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        // Tickets are kept by clients: nothing is locked, and no memory is held, for a session that may come back.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self(Arc::new(RwLock::new(Spoken { config: Arc::new(config), certificates }))))
    }

    /// From now on handshakes are as `other`'s, wherever a clone of this is in use. Tickets that were given stay good.
    pub fn follow(&self, other: &Self) {
        let (old, new) = (self.spoken(), other.spoken());
        let mut config = (*new.config).clone();
        config.ticketer = Arc::clone(&old.config.ticketer);
        let spoken = Spoken { config: Arc::new(config), certificates: new.certificates };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = spoken;
    }

    /// A number that another set of certificates hardly has.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        for own in self.spoken().certificates.0.iter() {
            own.key.cert.iter().for_each(|certificate| certificate.as_ref().hash(&mut hasher));
        }
        hasher.finish()
    }

    fn spoken(&self) -> Spoken {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The handshake. The caller bounds its time.
    pub(super) async fn greet(&self, stream: Stream) -> io::Result<Greeted> {
        let Spoken { config, certificates } = self.spoken();
        let secured = TlsAcceptor::from(config).accept(Metered::new(stream)).await?;
        let session = secured.get_ref().1;
        let host = session.server_name();
        let names = certificates.choose(host).map(|own| own.names.clone());
        let names = names.ok_or(io::ErrorKind::InvalidData)?;
        let http2 = session.alpn_protocol() == Some(H2);
        let greeting = Greeting { host: host.map(Into::into), names };
        Ok(Greeted { stream: Stream::Tls(Box::new(secured)), greeting, http2 })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.spoken().certificates).finish()
    }
}

/// The stream below TLS: it counts what the system takes.
#[derive(Debug)]
pub struct Metered {
    io: Stream,
    taken: u64,
}

impl Metered {
    fn new(io: Stream) -> Self {
        Self { io, taken: 0 }
    }

    pub(super) fn get_ref(&self) -> &Stream {
        &self.io
    }

    pub(super) fn get_mut(&mut self) -> &mut Stream {
        &mut self.io
    }

    /// How many bytes the system took.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.taken += *written as u64;
        }
        polled
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
