//! Certificates as they are made and chosen. Handshakes are tests of serving.

use super::*;
use crate::net::testing::{NOW, certificate};

fn made(params: rcgen::CertificateParams) -> Result<Certificate, CertificateFault> {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    Certificate::new(vec![own.der().clone()], key.serialize_der().try_into().unwrap(), NOW)
}

fn params(from: i32, to: i32) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params
}

#[test]
fn a_certificate_is_made_in_its_time_only() {
    assert!(made(params(2020, 2040)).unwrap().names_hosts());
    assert_eq!(made(params(2020, 2021)).err(), Some(CertificateFault::Expired));
    assert_eq!(made(params(2040, 2041)).err(), Some(CertificateFault::NotYetValid));
    assert!(!made(rcgen::CertificateParams::default()).unwrap().names_hosts());
}

#[test]
fn what_can_not_be_shown_is_no_certificate() {
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let own = params(2020, 2040).self_signed(&key).unwrap();
    let with = |chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>| {
        Certificate::new(chain, key, NOW).err()
    };
    let der = |key: &rcgen::KeyPair| key.serialize_der().try_into().unwrap();
    assert_eq!(with(vec![own.der().clone()], der(&key)), None);
    assert_eq!(with(Vec::new(), der(&key)), Some(CertificateFault::Empty));
    assert_eq!(with(vec![vec![1, 2, 3].into()], der(&key)), Some(CertificateFault::Unreadable));
    assert_eq!(with(vec![own.der().clone()], der(&other)), Some(CertificateFault::Misfit));
    let nonsense = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
    assert_eq!(with(vec![own.der().clone()], nonsense), Some(CertificateFault::Key));
}

#[test]
fn the_exact_name_goes_before_the_wildcard_and_else_it_is_the_first() {
    let all = [&["first.example"][..], &["*.Example.ORG"], &["b.example.org", "other.example"]];
    let certificates = Certificates(all.iter().map(|names| certificate(names).0).collect());
    let chosen = |host| {
        let own = certificates.choose(host).unwrap();
        certificates.0.iter().position(|other| std::ptr::eq(own, other)).unwrap()
    };
    assert_eq!(chosen(None), 0);
    assert_eq!(chosen(Some("first.example")), 0);
    assert_eq!(chosen(Some("a.example.org")), 1);
    assert_eq!(chosen(Some("b.example.org")), 2);
    assert_eq!(chosen(Some("other.example")), 2);
    assert_eq!(chosen(Some("example.org")), 0, "a wildcard stands for one label");
    assert_eq!(chosen(Some("x.b.example.org")), 0, "and for one only");
    assert_eq!(chosen(Some("stranger.example")), 0);
    assert_eq!(format!("{certificates:?}").matches("example").count(), 4, "the names are all that is shown");
}

#[test]
fn a_request_is_for_the_host_of_the_handshake_or_one_of_its_certificate() {
    let greeting = |host: Option<&str>| Greeting {
        host: host.map(Into::into),
        names: certificate(&["a.example", "*.b.example"]).0.names,
    };
    let named = greeting(Some("a.example"));
    for host in ["a.example", "x.b.example", ""] {
        assert!(named.is_for(host), "{host}");
    }
    for host in ["b.example", "c.example", "10.0.0.1"] {
        assert!(!named.is_for(host), "{host}");
    }
    assert!(greeting(Some("stranger.example")).is_for("stranger.example"));
    assert!(greeting(None).is_for("c.example"));
}
