//! SASL mechanisms as pure machines: challenge in, response out. SCRAM-SHA-256 (RFC 5802, 7677), PLAIN (RFC 4616),
//! OAUTHBEARER (RFC 7628), XOAUTH2; LOGIN stands for the IMAP command.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::options::Credentials;
use crate::error::{Error, Result, printable};

/// Iterations that are accepted: below, the password could be guessed from what was overheard (RFC 7677 section 4
/// asks for 4096); above, a hostile server would keep us computing (600,000 are half a second).
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=600_000;
/// Octets of a server's nonce and salt that are accepted.
const MAX_CHALLENGE: usize = 4096;

/// A way to prove who the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password is proved, not sent; the server proves that it knows it too.
    ScramSha256,
    /// User and password in one message.
    Plain,
    /// The LOGIN command of IMAP.
    Login,
    /// OAuth2 access token, the standard.
    OAuthBearer,
    /// OAuth2 access token, as Google and Microsoft had it first.
    XOAuth2,
}

impl Mechanism {
    /// The best that the server offers for these credentials, by its capabilities in upper-case.
    ///
    /// Errors: [`Error::Auth`] when it offers none.
    pub fn choose(credentials: &Credentials, capabilities: &[String]) -> Result<Self> {
        let offers = |name: &str| capabilities.iter().any(|c| c == name);
        let chosen = match credentials {
            Credentials::Password(_) if offers("AUTH=SCRAM-SHA-256") => Some(Self::ScramSha256),
            Credentials::Password(_) if offers("AUTH=PLAIN") => Some(Self::Plain),
            Credentials::Password(_) if !offers("LOGINDISABLED") => Some(Self::Login),
            Credentials::Token(_) if offers("AUTH=OAUTHBEARER") => Some(Self::OAuthBearer),
            Credentials::Token(_) if offers("AUTH=XOAUTH2") => Some(Self::XOAuth2),
            _ => None,
        };
        chosen.ok_or_else(|| {
            let kind = if matches!(credentials, Credentials::Token(_)) { "an OAuth2 token" } else { "a password" };
            Error::Auth(format!("the server offers no login with {kind} that imapfs knows").into())
        })
    }

    /// As IMAP spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }
}

/// One authentication exchange.
pub struct Exchange {
    state: State,
}

enum State {
    /// One message that holds the secret; then nothing.
    Single(SecretString, Mechanism),
    /// The single message is out.
    Sent(Mechanism),
    ScramFirst(Scram),
    ScramFinal(Scram),
    ScramVerify(Vec<u8>),
    Verified,
    /// The server refused a token and was answered.
    Refused(String),
}

struct Scram {
    password: SecretString,
    nonce: String,
    first_bare: String,
}

impl Exchange {
    /// An exchange by `mechanism`, which is not LOGIN.
    ///
    /// Errors: [`Error::Invalid`] when user or secret hold what cannot be sent.
    pub fn new(mechanism: Mechanism, user: &str, credentials: &Credentials) -> Result<Self> {
        Self::with_nonce(mechanism, user, credentials, nonce()?)
    }

    fn with_nonce(mechanism: Mechanism, user: &str, credentials: &Credentials, nonce: String) -> Result<Self> {
        let (Credentials::Password(secret) | Credentials::Token(secret)) = credentials;
        let text = secret.expose_secret();
        let forbidden: &[char] = match mechanism {
            Mechanism::Plain | Mechanism::ScramSha256 => &['\0'],
            Mechanism::Login | Mechanism::OAuthBearer | Mechanism::XOAuth2 => &['\0', '\x01', '\r', '\n'],
        };
        if user.contains(forbidden) || text.contains(forbidden) {
            return Err(Error::invalid("the user name or the secret holds a control character that cannot be sent"));
        }
        let state = match mechanism {
            Mechanism::Plain => State::Single(format!("\0{user}\0{text}").into(), mechanism),
            Mechanism::XOAuth2 => State::Single(format!("user={user}\x01auth=Bearer {text}\x01\x01").into(), mechanism),
            Mechanism::OAuthBearer => {
                let message = format!("n,a={},\x01auth=Bearer {text}\x01\x01", escape_name(user));
                State::Single(message.into(), mechanism)
            }
            Mechanism::ScramSha256 => {
                let first_bare = format!("n={},r={nonce}", escape_name(&prepare(user)));
                State::ScramFirst(Scram { password: prepare(text).into(), nonce, first_bare })
            }
            Mechanism::Login => return Err(Error::invalid("LOGIN is a command, not a mechanism")),
        };
        Ok(Self { state })
    }

    /// The first message: sent with the command where SASL-IR is offered, else for the empty challenge.
    pub fn initial(&mut self) -> Result<Vec<u8>> {
        self.respond(b"")
    }

    /// The answer to a challenge (decoded from base64).
    ///
    /// Errors: the exchange must be broken off and nothing more be sent.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>> {
        let refused = |reason: &str| Error::Auth(reason.into());
        if challenge.len() > MAX_CHALLENGE {
            return Err(refused("the server's challenge is too long"));
        }
        match std::mem::replace(&mut self.state, State::Refused("the exchange was broken off".into())) {
            State::Single(message, mechanism) => {
                self.state = State::Sent(mechanism);
                Ok(message.expose_secret().as_bytes().to_vec())
            }
            // The server refuses a token with a challenge that says why, and waits for an answer before its NO:
            // RFC 7628 section 3.2.3 wants \x01, XOAUTH2 an empty line.
            State::Sent(mechanism @ (Mechanism::OAuthBearer | Mechanism::XOAuth2)) => {
                self.state = State::Refused(token_error(challenge));
                Ok(if mechanism == Mechanism::OAuthBearer { vec![1] } else { Vec::new() })
            }
            State::Sent(_) => Err(refused("the server asked for more after all was said")),
            State::ScramFirst(scram) => {
                let message = format!("n,,{}", scram.first_bare);
                self.state = State::ScramFinal(scram);
                Ok(message.into_bytes())
            }
            State::ScramFinal(scram) => {
                let (message, signature) = scram.answer(challenge)?;
                self.state = State::ScramVerify(signature);
                Ok(message)
            }
            State::ScramVerify(signature) => {
                verify(challenge, &signature)?;
                self.state = State::Verified;
                Ok(Vec::new())
            }
            State::Verified | State::Refused(_) => Err(refused("the server asked for more after all was said")),
        }
    }

    /// After the tagged OK: was everything proved that had to be?
    ///
    /// Errors: [`Error::Auth`] when a SCRAM server did not prove that it knows the password.
    pub fn finish(&self) -> Result<()> {
        match &self.state {
            State::Sent(_) | State::Verified => Ok(()),
            State::Refused(reason) => Err(Error::Auth(reason.as_str().into())),
            State::Single(..) => Err(Error::Auth("the server answered OK before it was told who we are".into())),
            State::ScramFirst(_) | State::ScramFinal(_) | State::ScramVerify(_) => {
                Err(Error::Auth("the server did not prove that it knows the password".into()))
            }
        }
    }

    /// Why a token was refused, when the server said so.
    pub fn refusal(&self) -> Option<&str> {
        if let State::Refused(reason) = &self.state { Some(reason) } else { None }
    }
}

impl Scram {
    /// The client's final message, and the signature that the server has to show (RFC 5802 section 3).
    fn answer(&self, challenge: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        let failed = |reason: &str| Error::Auth(format!("SCRAM: {reason}").into());
        let text = std::str::from_utf8(challenge).map_err(|_| failed("the challenge is not UTF-8"))?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(failed(&printable(error.as_bytes(), 100)));
        }
        // The order of the attributes is fixed; `m=` in front would be an extension that must be understood.
        let mut attributes = text.split(',');
        let mut next = |name: &str| attributes.next().and_then(|a| a.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (next("r="), next("s="), next("i=")) else {
            return Err(failed("the challenge makes no sense"));
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(failed("the server's nonce does not continue ours"));
        }
        let salt =
            BASE64.decode(salt).ok().filter(|s| !s.is_empty()).ok_or_else(|| failed("the salt is not base64"))?;
        let iterations = iterations.parse().ok().filter(|i| ITERATIONS.contains(i)).ok_or_else(|| {
            failed(&format!("the iteration count is not within {} to {}", ITERATIONS.start(), ITERATIONS.end()))
        })?;
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.expose_secret().as_bytes(), &salt, iterations, &mut salted);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{text},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        let server_signature = hmac(&hmac(&salted, b"Server Key"), message.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes(), server_signature.to_vec()))
    }
}

fn verify(challenge: &[u8], signature: &[u8]) -> Result<()> {
    let failed = |reason: &str| Error::Auth(format!("SCRAM: {reason}").into());
    let text = std::str::from_utf8(challenge).map_err(|_| failed("the answer is not UTF-8"))?;
    if let Some(error) = text.strip_prefix("e=") {
        return Err(failed(&printable(error.as_bytes(), 100)));
    }
    let value = text.strip_prefix("v=").and_then(|v| v.split(',').next()).and_then(|v| BASE64.decode(v).ok());
    if value.is_some_and(|v| v == signature) {
        return Ok(());
    }
    Err(failed("the server did not prove that it knows the password"))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length: the error type exists for other MACs.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// `saslname` of RFC 5802 section 5.1.
fn escape_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// SASLprep (RFC 4013) as far as it matters: other spaces are a space, what is invisible goes, NFKC.
fn prepare(text: &str) -> String {
    let invisible = |c: char| matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}');
    text.chars()
        .filter(|c| !invisible(*c))
        .map(|c| if !c.is_ascii() && c.is_whitespace() { ' ' } else { c })
        .nfkc()
        .collect()
}

/// What a server says about a token that it refuses: `{"status":"invalid_token",…}`; the status is enough.
fn token_error(challenge: &[u8]) -> String {
    let status = serde_json::from_slice::<serde_json::Value>(challenge)
        .ok()
        .and_then(|v| v.get("status")?.as_str().map(|s| printable(s.as_bytes(), 60)))
        .unwrap_or_else(|| "no reason given".into());
    format!("the server refused the access token ({status})")
}

/// 144 random bits; base64 has no comma.
fn nonce() -> Result<String> {
    let mut bytes = [0; 18];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Error::Local(format!("/dev/urandom: {e}").into()))?;
    Ok(BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Credentials {
        Credentials::Password(text.into())
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn rfc7677() -> Exchange {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let mut exchange = Exchange::with_nonce(Mechanism::ScramSha256, "user", &password("pencil"), nonce).unwrap();
        assert_eq!(text(exchange.initial().unwrap()), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        exchange
    }

    #[test]
    fn scram_says_what_rfc_7677_says() {
        let mut exchange = rfc7677();
        assert_eq!(
            text(exchange.respond(SERVER_FIRST.as_bytes()).unwrap()),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(exchange.finish().is_err());
        assert_eq!(exchange.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), b"");
        exchange.finish().unwrap();
        assert!(exchange.respond(b"").is_err());
    }

    #[test]
    fn a_scram_server_that_cheats_is_left() {
        let check = |first: &str| {
            let mut exchange = rfc7677();
            assert!(matches!(exchange.respond(first.as_bytes()), Err(Error::Auth(_))), "{first}");
            assert!(exchange.respond(b"v=").is_err() && exchange.finish().is_err(), "{first}");
        };
        check(&SERVER_FIRST.replace("r=rO", "r=xO"));
        check("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        for count in ["1", "4095", "600001", "2147483647", "-1", "", "x"] {
            check(&SERVER_FIRST.replace("4096", count));
        }
        check(&SERVER_FIRST.replace("W22Z", "!!!!"));
        check(&SERVER_FIRST.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""));
        check(&format!("m=ext,{SERVER_FIRST}"));
        check("e=other-error");
        check("");
        check(&format!("{SERVER_FIRST},{}", "x".repeat(5000)));
        for last in ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "", "e=invalid-proof", "v=!"] {
            let mut exchange = rfc7677();
            exchange.respond(SERVER_FIRST.as_bytes()).unwrap();
            assert!(exchange.respond(last.as_bytes()).is_err() && exchange.finish().is_err(), "{last}");
        }
    }

    #[test]
    fn names_are_prepared_and_escaped() {
        assert_eq!(escape_name(&prepare("a=b,c\u{a0}d\u{ad}\u{2168}")), "a=3Db=2Cc dIX");
    }

    #[test]
    fn a_secret_is_sent_once_and_never_with_control_characters() {
        let token = Credentials::Token("T0ken".into());
        for (mechanism, credentials, want) in [
            (Mechanism::Plain, password("p\u{e4}ss"), "\0u@x\0p\u{e4}ss"),
            (Mechanism::XOAuth2, token.clone(), "user=u@x\x01auth=Bearer T0ken\x01\x01"),
            (Mechanism::OAuthBearer, token, "n,a=u@x,\x01auth=Bearer T0ken\x01\x01"),
        ] {
            let mut exchange = Exchange::new(mechanism, "u@x", &credentials).unwrap();
            assert!(exchange.finish().is_err());
            assert_eq!(text(exchange.initial().unwrap()), want);
            exchange.finish().unwrap();
            let again = exchange.respond(br#"{"status":"invalid_token","scope":"x"}"#);
            match mechanism {
                Mechanism::Plain => assert!(again.is_err()),
                Mechanism::OAuthBearer => assert_eq!(again.unwrap(), [1]),
                _ => assert_eq!(again.unwrap(), b""),
            }
            assert!(exchange.finish().is_err() && exchange.respond(b"").is_err());
            assert!(Exchange::new(mechanism, "u@x", &password("a\0b")).is_err());
        }
        assert!(token_error(b"{\"status\":\"invalid_token\"}").ends_with("(invalid_token)"));
        assert!(token_error(b"\xff").ends_with("(no reason given)"));
    }

    #[test]
    fn the_best_mechanism_that_is_offered_is_taken() {
        let token = || Credentials::Token("t".into());
        for (credentials, capabilities, want) in [
            (password("p"), "AUTH=PLAIN AUTH=SCRAM-SHA-256 AUTH=LOGIN", Some(Mechanism::ScramSha256)),
            (password("p"), "AUTH=PLAIN AUTH=LOGIN LOGINDISABLED", Some(Mechanism::Plain)),
            (password("p"), "AUTH=CRAM-MD5", Some(Mechanism::Login)),
            (password("p"), "", Some(Mechanism::Login)),
            (password("p"), "LOGINDISABLED AUTH=XOAUTH2", None),
            (token(), "AUTH=XOAUTH2 AUTH=OAUTHBEARER", Some(Mechanism::OAuthBearer)),
            (token(), "AUTH=XOAUTH2 AUTH=PLAIN", Some(Mechanism::XOAuth2)),
            (token(), "AUTH=PLAIN", None),
        ] {
            let capabilities: Vec<String> = capabilities.split(' ').map(Into::into).collect();
            assert_eq!(Mechanism::choose(&credentials, &capabilities).ok(), want, "{capabilities:?}");
        }
    }
}
