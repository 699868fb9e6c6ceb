//! `[tls]`: how browsers are served over https, and with which certificates.
//!
//! A certificate that comes out of here can be shown: it was read, is valid now and fits its key. Nothing of a key file,
//! not even its name, gets into a report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::options::ListenText;
use super::report::Finding;
use super::table::{Table, Text, is_text};
use super::tree::{Findings, Node, Value};
use super::vars::{self, Outside};
use crate::clock::Clock;
use crate::net::tls::{Certificate, CertificateFault, LeastVersion, Tls};

/// Reads `[tls]` of the top table; `None` where there is none.
pub(super) fn read(top: &Table<'_>, listen: &[ListenText], outside: &dyn Outside) -> Option<Tls> {
    let table = top.table("tls", "`[tls]`")?;
    mode(&table);
    let versions = [("1.2", LeastVersion::Tls12), ("1.3", LeastVersion::Tls13)];
    let least = table.choice("min_version", &versions).unwrap_or(LeastVersion::Tls12);
    plain_port(&table, listen);
    table.unbuilt_unless("hsts", |value| is_text(value, "off"));
    table.unbuilt("acme");
    let certificates = certificates(&table, outside);
    let made = Tls::new(certificates, least);
    if made.is_err() {
        let title = "`[tls]` cannot be used: there is no randomness for its keys";
        table.findings.error(Finding::at(&table.span, title, ""));
    }
    table.finish();
    made.ok()
}

fn mode(table: &Table<'_>) {
    let Some(node) = table.node("mode") else { return };
    match &node.value {
        Value::Text { text, literal: true } if text == "acme" || text == "internal" => {
            let title = format!("the mode `{text}` of `[tls]` is not built yet in this version");
            table.findings.error(Finding::at(&node.span, title, "`files` is: certificates from files"));
        }
        _ => {
            let _: Option<()> = table.choice("mode", &[("files", ())]);
        }
    }
}

/// Port 80 is the one address that stays plain. Redirecting from there is not built, so that it is served plainly has to
/// be asked for.
fn plain_port(table: &Table<'_>, listen: &[ListenText]) {
    let redirects = table.flag("redirect_http").unwrap_or(true);
    if redirects && listen.iter().any(ListenText::is_port_80) {
        let span = table.node("redirect_http").map_or(&table.span, |node| &node.span);
        let title = "`redirect_http` is not built yet in this version, and `listen` has port 80";
        let finding = Finding::at(span, title, "port 80 would be served without TLS");
        table.findings.error(finding.help("take port 80 out of `listen`, or say `redirect_http = false`"));
    }
    if !listen.is_empty() && !listen.iter().any(ListenText::speaks_tls) {
        let title = "`[tls]` is for nobody: no address of `listen` speaks TLS";
        table.findings.error(Finding::at(&table.span, title, "port 80 and unix sockets are plain"));
    }
}

/// `[[tls.certificates]]`, those that can be used.
fn certificates(table: &Table<'_>, outside: &dyn Outside) -> Vec<Certificate> {
    let items = match table.node("certificates") {
        Some(Node { value: Value::List(items), .. }) => items.as_slice(),
        Some(node) => {
            table.wrong("certificates", node, "a list of tables: `[[tls.certificates]]`");
            return Vec::new();
        }
        None => &[],
    };
    if items.is_empty() {
        let finding = Finding::at(&table.span, "`[tls]` has no certificate", "nobody could connect");
        table.findings.error(finding.help("name files: `[[tls.certificates]]` with `cert` and `key`"));
    }
    let read = |(at, item)| certificate(item, at, table.findings, outside);
    items.iter().enumerate().filter_map(read).collect()
}

/// The certificate at place `at` of the list.
fn certificate(item: &Node, at: usize, findings: &Findings, outside: &dyn Outside) -> Option<Certificate> {
    let table = Table::new(item, "`[[tls.certificates]]`", findings)?;
    let (cert, key) = (table.text("cert"), table.text("key"));
    for name in ["cert", "key"] {
        if !table.has(name) {
            let title = format!("a certificate has no `{name}`");
            findings.error(Finding::at(&item.span, title, "it needs both files: `cert` and `key`"));
        }
    }
    table.finish();
    let (cert, key) = (cert?, key?);
    let chain = chain(&cert, findings, outside);
    let own = private_key(&key, findings, outside);
    let now = Duration::from_millis(Clock::system().now().millis());
    match Certificate::new(chain?, own?, now) {
        Ok(made) => {
            if at > 0 && !made.names_hosts() {
                let title = "a certificate names no host: no browser will ever get it";
                findings.warn(Finding::at(
                    &cert.span,
                    title,
                    "its subject alternative names are what counts",
                ));
            }
            Some(made)
        }
        Err(fault) => {
            let by_key = matches!(fault, CertificateFault::Key | CertificateFault::Misfit);
            let at = if by_key { &key.span } else { &cert.span };
            let what = if by_key { "`key` cannot be used" } else { "`cert` cannot be used" };
            let finding = Finding::at(at, what, fault.to_string());
            findings.error(if by_key { finding.also(&cert.span, "this certificate") } else { finding });
            None
        }
    }
}

/// The certificates of a file, the server's own first.
fn chain(text: &Text, findings: &Findings, outside: &dyn Outside) -> Option<Vec<CertificateDer<'static>>> {
    let pem = file(text, "cert", findings, outside)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    if chain.is_err() {
        findings.error(Finding::at(&text.span, "`cert` cannot be used", "the file is no PEM, or is cut off"));
    }
    chain.ok()
}

fn private_key(text: &Text, findings: &Findings, outside: &dyn Outside) -> Option<PrivateKeyDer<'static>> {
    let pem = file(text, "key", findings, outside)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok();
    if key.is_none() {
        let label = if pem.contains("ENCRYPTED") {
            "the key is encrypted, and nobody is there to be asked for its password"
        } else {
            "there is no private key in the file"
        };
        findings.error(Finding::at(&text.span, "`key` cannot be used", label));
    }
    key
}

/// The text of the file that `text` names, which is looked for beside the file of the config that names it.
fn file(text: &Text, key: &str, findings: &Findings, outside: &dyn Outside) -> Option<Zeroizing<String>> {
    if text.text.contains("-----BEGIN") {
        let title = format!("`{key}` is the path of a file, not what is in it");
        findings.error(Finding::at(&text.span, title, "write the path"));
        return None;
    }
    match outside.file(&beside(&text.span.source.name, &text.text)) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            let title = format!("the file of `{key}` cannot be read");
            findings.error(Finding::at(&text.span, title, vars::reason(&error)));
            None
        }
    }
}

fn beside(config: &str, path: &str) -> PathBuf {
    Path::new(config).parent().unwrap_or_else(|| Path::new("")).join(path)
}
