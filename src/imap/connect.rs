//! From an address to a logged-in stream: TCP, TLS, greeting, STARTTLS, authentication. After it async-imap is gone.
//!
//! Invariant: no secret is sent, and nothing that was said is believed, before TLS has begun (RFC 8314; RFC 3501
//! section 6.2.1), unless [`Tls::None`] was asked for.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::gate::Gate;
use super::options::{Credentials, Options, Tls};
use super::refusal;
use super::response::Status;
use super::sasl::{Exchange, Mechanism};
use super::transport::{self, Counters, Stream};
use crate::error::{Error, Result};

type Client = async_imap::Client<Gate>;

/// A connection on which login succeeded.
pub struct Connected {
    /// The stream, TLS begun.
    pub stream: Box<dyn Stream>,
    /// What came behind the answer to the login.
    pub unread: BytesMut,
    /// Capabilities, upper-case, where the server told them with the login; else they must be asked for.
    pub capabilities: Option<Vec<String>>,
    /// How the user was proved.
    pub mechanism: Mechanism,
}

/// Connects and logs in.
///
/// Errors: [`Error::Offline`] (also for certificates that are not trusted and for BYE), [`Error::Auth`],
/// [`Error::Busy`] for too many connections, [`Error::TimedOut`], [`Error::Protocol`], and what the source of
/// credentials answers.
pub async fn connect(options: &Options, counters: Arc<Counters>) -> Result<Connected> {
    let mut used = None;
    let refused = match connect_with(options, Arc::clone(&counters), &mut used).await {
        Err(error @ Error::Auth(_)) => error,
        outcome => return outcome,
    };
    // It may have been changed since its source was asked. The same again would only lock the account.
    let Some(old) = used else { return Err(refused) };
    match credentials(options, true).await {
        Ok(new) if !new.is_same(&old) => {
            tracing::info!("the login was refused, and its source has another secret by now");
            connect_with(options, counters, &mut Some(new)).await
        }
        _ => Err(refused),
    }
}

/// Connects and logs in with `used`, or with what the source of credentials gives, which is left there.
async fn connect_with(options: &Options, counters: Arc<Counters>, used: &mut Option<Credentials>) -> Result<Connected> {
    let stream = transport::dial(options, counters).await?;
    let stream = if options.tls == Tls::Implicit { transport::start_tls(stream, options).await? } else { stream };
    login_with(stream, options, used).await
}

/// Greeting to login over a stream on which implicit TLS has begun already.
#[cfg(test)]
pub async fn login(stream: Box<dyn Stream>, options: &Options) -> Result<Connected> {
    login_with(stream, options, &mut None).await
}

async fn login_with(stream: Box<dyn Stream>, options: &Options, used: &mut Option<Credentials>) -> Result<Connected> {
    let mut gate = Gate::new(stream, true, options.debug_protocol);
    let mut client = Client::new(gate.clone());
    let limit = options.timeout;
    step(&gate, limit, "greeting", async { client.read_response().await.map(drop).map_err(Into::into) }).await?;
    if gate.take_outcome().is_some_and(|greeting| greeting.status == Status::PreAuth) {
        // In plain text it may be forged to keep STARTTLS from happening (CVE-2020-12398); inside TLS nobody knows
        // whose mailbox it is, and it is not the one that the credentials are for.
        return Err(Error::Auth("the server claims that login is not needed (PREAUTH): whose mailbox is it?".into()));
    }
    let mut capabilities = gate.take_capabilities();
    if options.tls == Tls::StartTls {
        let offered = ask_if_unknown(&mut client, &gate, limit, capabilities).await?;
        if !offered.iter().any(|c| c == "STARTTLS") {
            return Err(Error::offline("the server does not offer STARTTLS"));
        }
        let asked = client.run_command_and_check_ok("STARTTLS", None);
        if let Err(error) = step(&gate, limit, "STARTTLS", asked).await {
            return Err(gate.take_outcome().map_or(error, |_| Error::offline("the server refuses STARTTLS")));
        }
        let (stream, unread) = gate.take()?;
        if !unread.is_empty() {
            // CVE-2021-22947: whoever is in between puts answers here that would be taken for the server's.
            return Err(Error::offline("the connection is tampered with: octets came behind the answer to STARTTLS"));
        }
        let stream = transport::start_tls(stream, options).await?;
        gate = Gate::new(stream, false, options.debug_protocol);
        client = Client::new(gate.clone());
        capabilities = None;
    }
    let capabilities = ask_if_unknown(&mut client, &gate, limit, capabilities).await?;
    if used.is_none() {
        *used = Some(credentials(options, false).await?);
    }
    let Some(credentials) = used else { return Err(Error::Local("there are no credentials".into())) };
    let mechanism = Mechanism::choose(credentials, &capabilities)?;
    authenticate(client, &gate, options, credentials, mechanism, &capabilities).await?;
    let capabilities = gate.take_capabilities();
    let (stream, unread) = gate.take()?;
    Ok(Connected { stream, unread, capabilities, mechanism })
}

async fn ask_if_unknown(
    client: &mut Client,
    gate: &Gate,
    limit: Duration,
    known: Option<Vec<String>>,
) -> Result<Vec<String>> {
    if let Some(capabilities) = known {
        return Ok(capabilities);
    }
    step(gate, limit, "CAPABILITY", client.run_command_and_check_ok("CAPABILITY", None)).await?;
    gate.take_capabilities().ok_or_else(|| Error::protocol("the server does not tell its capabilities"))
}

/// The secret, asked for anew each time because tokens expire; the source may run a program and wait for it. `refused`:
/// what it gave last was.
async fn credentials(options: &Options, refused: bool) -> Result<Credentials> {
    let source = options.credentials.clone();
    tokio::task::spawn_blocking(move || source(refused))
        .await
        .map_err(|_| Error::Local("the source of the credentials failed".into()))?
}

async fn authenticate(
    client: Client,
    gate: &Gate,
    options: &Options,
    credentials: &Credentials,
    mechanism: Mechanism,
    capabilities: &[String],
) -> Result<()> {
    let limit = options.timeout;
    if mechanism == Mechanism::Login {
        let (Credentials::Password(secret) | Credentials::Token(secret)) = credentials;
        let secret = secret.expose_secret();
        if [options.user.as_str(), secret].iter().any(|s| s.contains(['\r', '\n', '\0'])) {
            return Err(Error::invalid("LOGIN cannot send a user name or password with CR, LF or NUL"));
        }
        let login = async { client.login(&options.user, secret).await.map(drop).map_err(|(e, _)| e) };
        return step(gate, limit, "LOGIN", login).await.map_err(|error| refused(gate, error));
    }
    let mut exchange = Exchange::new(mechanism, &options.user, credentials)?;
    let mut command = mechanism.name().to_owned();
    if capabilities.iter().any(|c| c == "SASL-IR") {
        command = format!("{command} {}", BASE64.encode(exchange.initial()?));
    }
    let bridge = Bridge { exchange: &mut exchange, gate };
    let login = async { client.authenticate(command, bridge).await.map(drop).map_err(|(e, _)| e) };
    match step(gate, limit, "AUTHENTICATE", login).await {
        Ok(()) => exchange.finish(),
        Err(error) => Err(match (refused(gate, error), exchange.refusal()) {
            (Error::Auth(_), Some(reason)) if gate.failure().is_none() => Error::Auth(reason.into()),
            (error, _) => error,
        }),
    }
}

fn refused(gate: &Gate, error: Error) -> Error {
    match (gate.failure(), gate.take_outcome()) {
        (None, Some(outcome)) => refusal::login(&outcome),
        _ => error,
    }
}

/// Lets async-imap ask an [`Exchange`]. async-imap takes an answer and no error, so an error closes the gate, through
/// which then nothing more is sent.
struct Bridge<'a> {
    exchange: &'a mut Exchange,
    gate: &'a Gate,
}

impl async_imap::Authenticator for Bridge<'_> {
    type Response = Vec<u8>;

    fn process(&mut self, challenge: &[u8]) -> Vec<u8> {
        self.exchange.respond(challenge).unwrap_or_else(|error| {
            self.gate.fail(error);
            Vec::new()
        })
    }
}

/// Runs one step with its deadline. Why the gate closed says more than what async-imap makes of it.
async fn step<T>(
    gate: &Gate,
    limit: Duration,
    what: &str,
    future: impl Future<Output = async_imap::error::Result<T>>,
) -> Result<T> {
    match timeout(limit, future).await {
        Ok(Ok(value)) => gate.failure().map_or(Ok(value), Err),
        // The text of async-imap's error is not used: it may quote what was sent.
        Ok(Err(_)) => Err(gate.failure().unwrap_or_else(|| Error::protocol(format!("the server refuses {what}")))),
        Err(_) if what == "greeting" => {
            let text = format!("no greeting within {} s (is this port for TLS?)", limit.as_secs());
            Err(Error::TimedOut(text.into()))
        }
        Err(_) => Err(Error::TimedOut(format!("no answer to {what} within {} s", limit.as_secs()).into())),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
