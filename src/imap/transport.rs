//! The byte stream to the server: TCP, then TLS, with the octets counted as they pass the socket.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use native_tls::{Certificate, Protocol, TlsConnector};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::options::Options;
use super::pace::Seen;
use crate::error::{Error, Result, printable};

/// Longest time for one address to accept a connection; with several addresses the next one is tried after it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When a silent connection is probed, and how often.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long sent octets may stay unacknowledged before the kernel gives the connection up: a half-open connection
/// (suspended machine, forgotten NAT entry) is noticed after this and not after a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Octets that may wait in the kernel before they are sent: with megabytes of a message in there nobody could tell a slow
/// link from a silent server.
const UNSENT: u32 = 256 << 10;

/// A byte stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Counters that all connections of a client share.
#[derive(Debug, Default)]
pub struct Counters {
    /// Octets read from sockets (TLS records and all).
    pub bytes_in: AtomicU64,
    /// Octets written to sockets.
    pub bytes_out: AtomicU64,
    /// Commands sent.
    pub commands: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections opened since the start.
    pub logins: AtomicU64,
    /// How changes by others are heard of: a [`Watching`](super::server::Watching).
    pub watching: AtomicU8,
    /// What they have seen of the line since one was lost last.
    pub seen: Seen,
    /// The newest failure of a connection, or of an attempt to make one.
    pub last_error: Mutex<Option<(SystemTime, Error)>>,
}

impl Counters {
    /// Keeps a failure for the status.
    pub fn failed(&self, error: &Error) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), error.clone()));
    }
}

/// A stream whose octets are counted.
struct Counted<S> {
    inner: S,
    counters: Arc<Counters>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.counters.bytes_in.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            self.counters.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Connects to the server. Every address of the name is tried; each has its own share of time, so one that swallows
/// packets does not hide the others.
///
/// Errors: [`Error::Offline`].
pub async fn dial(options: &Options, counters: Arc<Counters>) -> Result<Box<dyn Stream>> {
    let Options { host, port, .. } = options;
    let limit = CONNECT_TIMEOUT.min(options.timeout);
    let addresses = timeout(limit, tokio::net::lookup_host((host.as_str(), *port)))
        .await
        .map_err(|_| Error::offline(format!("{host}: the name was not resolved within {} s", limit.as_secs())))?
        .map_err(|e| Error::offline(format!("{host}: {e}")))?;
    let mut failure = Error::offline(format!("{host}: the name has no address"));
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                tune(&socket);
                return Ok(Box::new(Counted { inner: socket, counters }));
            }
            Ok(Err(e)) => failure = Error::offline(format!("{host} ({address}): {e}")),
            Err(_) => failure = Error::offline(format!("{host} ({address}): no answer within {} s", limit.as_secs())),
        }
    }
    Err(failure)
}

/// Options that make a connection quick and its death visible. Failure of one costs only that.
fn tune(socket: &TcpStream) {
    let reference = socket2::SockRef::from(socket);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    let results = [
        socket.set_nodelay(true),
        reference.set_tcp_keepalive(&keepalive),
        reference.set_tcp_user_timeout(Some(USER_TIMEOUT)),
        reference.set_tcp_notsent_lowat(UNSENT),
    ];
    for error in results.into_iter().filter_map(io::Result::err) {
        tracing::debug!(%error, "socket option not set");
    }
}

/// Begins TLS. The certificate must be valid for `host` by subjectAltName, under the system's roots or those of
/// `tls_ca`; TLS 1.2 at the least. No option turns any of this off.
///
/// Errors: [`Error::Local`] when `tls_ca` cannot be used, else [`Error::Offline`] that says why the server is not
/// trusted.
pub async fn start_tls(stream: Box<dyn Stream>, options: &Options) -> Result<Box<dyn Stream>> {
    let connector = tokio_native_tls::TlsConnector::from(connector(options.tls_ca.as_deref())?);
    let host = &options.host;
    let tls = timeout(options.timeout, connector.connect(host, stream))
        .await
        .map_err(|_| Error::offline(format!("{host}: no TLS handshake within {} s", options.timeout.as_secs())))?
        .map_err(|e| Error::offline(format!("{host}: TLS: {}", printable(e.to_string().as_bytes(), 300))))?;
    let certificate = tls.get_ref().peer_certificate().ok().flatten().and_then(|c| c.to_der().ok());
    if !certificate.is_some_and(|der| has_alternative_name(&der)) {
        return Err(Error::offline(format!("{host}: TLS: the certificate has no subjectAltName")));
    }
    Ok(Box::new(tls))
}

/// OpenSSL falls back to the common name when a certificate has no subjectAltName; RFC 9525 section 2 does not.
/// The octets are the extension's object identifier, 2.5.29.17, in DER.
fn has_alternative_name(der: &[u8]) -> bool {
    der.windows(5).any(|w| w == [0x06, 0x03, 0x55, 0x1d, 0x11])
}

fn connector(tls_ca: Option<&Path>) -> Result<TlsConnector> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = tls_ca {
        let unusable = |e: &dyn std::fmt::Display| Error::Local(format!("{}: {e}", path.display()).into());
        let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
        let roots = Certificate::stack_from_pem(&pem).map_err(|e| unusable(&e))?;
        if roots.is_empty() {
            return Err(unusable(&"holds no certificate"));
        }
        for root in roots {
            builder.add_root_certificate(root);
        }
    }
    builder.build().map_err(|e| Error::Local(format!("TLS: {e}").into()))
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
