//! What the tests of this layer share: peers that say and read bytes as a test scripts them.
//!
//! Invariant: nothing here waits by the clock; under paused time a test takes no time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::{Body, BodyError, End};
use super::tls::Certificate;
use super::upstream::Dialer;

pub(super) type Script = mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>;
pub(super) type Say = mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>;

pub(super) const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Runs a test where `spawn_local` works.
pub(super) async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

/// A body of unknown length and the end that feeds it.
pub(super) fn script() -> (Say, Body) {
    let (say, script) = mpsc::unbounded_channel();
    (say, Body::scripted(script))
}

pub(super) fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A dialer whose connections come out at the other end.
pub(super) fn backend() -> (Dialer, mpsc::UnboundedReceiver<DuplexStream>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let dial = move |_: &str| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tx.send(far).map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    };
    (Dialer::Memory(Rc::new(dial)), rx)
}

/// Reads up to the empty line that ends a head.
pub(super) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    read_until(io, "\r\n\r\n").await
}

pub(super) async fn read_until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        match io.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => panic!("closed after {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8(read).unwrap()
}

/// Reads what is left until the peer closes.
pub(super) async fn read_rest(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let _ = io.read_to_end(&mut read).await;
    String::from_utf8(read).unwrap()
}

/// Remembers how a body ended, and how often it said so.
#[derive(Clone, Default)]
pub(super) struct Ends(Rc<RefCell<Vec<End>>>);

impl Ends {
    pub(super) fn hook(&self) -> impl FnOnce(&End) + 'static {
        let ends = self.clone();
        move |end: &End| ends.0.borrow_mut().push(end.clone())
    }

    /// As text, for comparing: the outcome and the bytes.
    pub(super) fn seen(&self) -> Vec<String> {
        self.0.borrow().iter().map(|end| format!("{:?} {}", end.outcome, end.bytes)).collect()
    }
}

/// A self-signed certificate for `names` with its key, and what a client that trusts it needs.
pub(super) fn certificate(names: &[&str]) -> (Certificate, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let der = made.cert.der().clone();
    (Certificate::new(vec![der.clone()], key, NOW).unwrap(), der)
}

/// Some moment of 2026.
pub(super) const NOW: Duration = Duration::from_secs(1_790_000_000);

/// TLS as a client that trusts `roots` and offers `alpn` speaks it.
pub(super) fn connector(roots: &[CertificateDer<'static>], alpn: &[&str]) -> TlsConnector {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// A handshake with the server that `io` leads to, for `host`.
pub(super) async fn greet(connector: &TlsConnector, host: &str, io: DuplexStream) -> TlsStream<DuplexStream> {
    let host = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    connector.connect(host, io).await.unwrap()
}
