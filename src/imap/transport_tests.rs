//! TLS with certificates that are right, and wrong in each way.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::options::{Credentials, Tls};
use super::super::testing::{options, play};
use super::*;

struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

fn key() -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()
}

/// A certificate for this common name and these DNS names, valid between these days from now.
fn certificate(key: &PKey<Private>, name: &str, dns: &[&str], days: (i64, i64), issuer: Option<&Authority>) -> X509 {
    let mut builder = X509::builder().unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32((days.1 + 100) as u32).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |i| i.certificate.subject_name())).unwrap();
    builder.set_pubkey(key).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    builder.set_not_before(&time(days.0)).unwrap();
    builder.set_not_after(&time(days.1)).unwrap();
    if issuer.is_none() && dns.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    if !dns.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in dns {
            names.dns(name);
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(issuer.map_or(key, |i| &i.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

fn authority(name: &str) -> Authority {
    let key = key();
    Authority { certificate: certificate(&key, name, &[], (-1, 10), None), key }
}

fn acceptor(certificate: &X509, key: &PKey<Private>, most: Option<Protocol>) -> tokio_native_tls::TlsAcceptor {
    let pem = (certificate.to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap());
    let mut builder = native_tls::TlsAcceptor::builder(native_tls::Identity::from_pkcs8(&pem.0, &pem.1).unwrap());
    builder.min_protocol_version(Some(Protocol::Tlsv10)).max_protocol_version(most);
    builder.build().unwrap().into()
}

/// The options of a client that trusts the authority, and the file in which it is.
fn trusting(authority: &Authority, port: u16, tls: Tls) -> (Options, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.certificate.to_pem().unwrap()).unwrap();
    let mut options = options(port, tls, Credentials::Password("s3cret".into()));
    options.tls_ca = Some(file.path().into());
    (options, file)
}

#[tokio::test]
async fn only_a_certificate_that_is_right_in_every_way_is_trusted() {
    let (ours, foreign, key) = (authority("ours"), authority("foreign"), key());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (options, _file) = trusting(&ours, listener.local_addr().unwrap().port(), Tls::Implicit);
    let good = |dns: &[&str], days| certificate(&key, "localhost", dns, days, Some(&ours));
    for (what, certificate, most, trusted) in [
        ("right", good(&["localhost"], (-1, 1)), None, true),
        ("TLS 1.2", good(&["localhost"], (-1, 1)), Some(Protocol::Tlsv12), true),
        ("TLS 1.1", good(&["localhost"], (-1, 1)), Some(Protocol::Tlsv11), false),
        ("expired", good(&["localhost"], (-2, -1)), None, false),
        ("not yet valid", good(&["localhost"], (1, 2)), None, false),
        ("other name", good(&["mail.example.org"], (-1, 1)), None, false),
        ("wildcard", good(&["*", "*.localhost"], (-1, 1)), None, false),
        ("common name only", good(&[], (-1, 1)), None, false),
        ("self-signed", certificate(&key, "localhost", &["localhost"], (-1, 1), None), None, false),
        ("unknown authority", certificate(&key, "localhost", &["localhost"], (-1, 1), Some(&foreign)), None, false),
    ] {
        let acceptor = acceptor(&certificate, &key, most);
        let server = async {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(socket).await {
                let _ = stream.write_all(b"* OK hi\r\n").await;
            }
        };
        let counters = Arc::new(Counters::default());
        let client = async {
            let mut stream = start_tls(dial(&options, Arc::clone(&counters)).await?, &options).await?;
            let mut greeting = [0; 9];
            stream.read_exact(&mut greeting).await.map_err(|e| Error::offline(e.to_string()))?;
            assert_eq!(&greeting, b"* OK hi\r\n");
            Ok::<_, Error>(())
        };
        let ((), outcome) = tokio::join!(server, client);
        assert_eq!(outcome.is_ok(), trusted, "{what}: {outcome:?}");
        assert!(trusted || matches!(outcome, Err(Error::Offline(_))), "{what}: {outcome:?}");
        assert!(counters.bytes_in.load(Ordering::Relaxed) > 0 && counters.bytes_out.load(Ordering::Relaxed) > 0);
    }
}

#[tokio::test]
async fn what_was_said_before_starttls_is_forgotten() {
    let (ours, key) = (authority("ours"), key());
    let certificate = certificate(&key, "localhost", &["localhost"], (-1, 1), Some(&ours));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (options, _file) = trusting(&ours, listener.local_addr().unwrap().port(), Tls::StartTls);
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let hi = "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED AUTH=XOAUTH2] hi\r\n";
        socket.write_all(hi.as_bytes()).await.unwrap();
        let mut buffer = [0; 100];
        let n = socket.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..n], b"A0001 STARTTLS\r\n");
        socket
            .write_all(b"* LIST () \"/\" forged\r\n* 5 EXISTS\r\nA0001 OK [CAPABILITY FORGED] begin\r\n")
            .await
            .unwrap();
        let stream = acceptor(&certificate, &key, None).accept(socket).await.unwrap();
        let script = "C: CAPABILITY\nS: * CAPABILITY IMAP4rev1 AUTH=PLAIN\nS: $ OK\n\
            C: AUTHENTICATE PLAIN\nS: +\nC: AGFs\nS: A0002 OK in\nclose";
        play(stream, script).await
    });
    let connected = super::super::connect::connect(&options, Arc::default()).await.unwrap();
    assert_eq!((connected.capabilities, connected.mechanism.name()), (None, "PLAIN"));
    assert!(!server.await.unwrap().contains("LOGIN"));
}

#[tokio::test]
async fn a_root_that_cannot_be_used_is_a_local_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(file.path(), text).unwrap();
        assert!(matches!(connector(Some(file.path())), Err(Error::Local(_))), "{text}");
    }
    assert!(matches!(connector(Some(Path::new("/nonexistent"))), Err(Error::Local(_))));
}
