//! Private IMAP servers, started by the scripts of the project and ended with the test binary, however it ends.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::imap::Imap;
use super::proxy::Proxy;

/// How a client of this account protects its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Implicit,
    StartTls,
    None,
}

/// A running server. Dropping it stops it and removes its state.
pub struct Server {
    /// `dovecot`, `cyrus`, `courier` or `mailutils`.
    pub name: &'static str,
    /// State, configuration, `env` and `log`; removed when the server is stopped.
    pub dir: PathBuf,
    pub port: u16,
    pub tls_port: u16,
    /// PEM file of the CA that signed the server's certificate for `localhost`.
    pub ca: PathBuf,
    /// The server's own process, for SIGSTOP and the like.
    pub pid: u32,
    script: Child,
    accounts: AtomicU32,
}

impl Server {
    /// The Dovecot that all tests of this binary share. Use [`Server::account`] to be alone.
    pub fn dovecot() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start("dovecot", &[("DOVECOT_MAXCONN", "100")]))
    }

    /// The Cyrus that all tests of this binary share.
    pub fn cyrus() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start("cyrus", &[]))
    }

    /// The Courier that all tests of this binary share.
    pub fn courier() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start("courier", &[]))
    }

    /// The GNU mailutils that all tests of this binary share.
    pub fn mailutils() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start("mailutils", &[]))
    }

    /// Starts a server of one's own; `options` are the variables that the head of `scripts/servers/NAME` lists.
    ///
    /// # Panics
    /// When it does not start; the script has then said why on standard error.
    pub fn start(name: &'static str, options: &[(&str, &str)]) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers").join(name);
        let dir = tempfile::Builder::new().prefix("imapfs-server-").tempdir().unwrap().keep();
        let mut script = Command::new(script)
            .arg(&dir)
            .arg("--watch")
            .envs(options.iter().copied())
            // The script stops the server at the end of this pipe, so also when this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{name} did not start: see above");
        let env = std::fs::read_to_string(dir.join("env")).unwrap();
        let env: HashMap<&str, &str> = env.lines().filter_map(|line| line.split_once('=')).collect();
        Server {
            name,
            port: env["IMAP_PORT"].parse().unwrap(),
            tls_port: env["IMAP_TLS_PORT"].parse().unwrap(),
            ca: env["IMAP_CA"].into(),
            pid: env["IMAP_PID"].parse().unwrap(),
            dir,
            script,
            accounts: AtomicU32::new(1),
        }
    }

    /// An account that no other test of this binary has: empty but for the server's standard mailboxes.
    pub fn account(&self) -> Account {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        // The others need to know their users beforehand.
        assert!(number <= 40 || self.name == "dovecot", "{} has 40 accounts", self.name);
        self.user(&format!("u{number}"), "wonderland")
    }

    /// The account of alice.
    pub fn alice(&self) -> Account {
        self.user("alice", "wonderland")
    }

    /// The account of bob.
    pub fn bob(&self) -> Account {
        self.user("bob", "builder")
    }

    fn user(&self, user: &str, password: &str) -> Account {
        Account {
            server: self.name,
            port: self.port,
            tls_port: self.tls_port,
            direct_port: self.port,
            ca: self.ca.clone(),
            user: user.to_owned(),
            password: password.to_owned(),
            security: Security::StartTls,
        }
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let ended = super::wait_for(Duration::from_secs(10), || self.script.try_wait().ok().flatten());
        if ended.is_none() {
            eprintln!("{} in {} does not stop", self.name, self.dir.display());
        }
    }
}

/// One user of a server, and the way to it.
#[derive(Clone, Debug)]
pub struct Account {
    pub server: &'static str,
    /// Where a mount connects in plaintext or by STARTTLS: the server, or a proxy in front of it.
    pub port: u16,
    /// Where a mount connects by implicit TLS.
    pub tls_port: u16,
    direct_port: u16,
    pub ca: PathBuf,
    pub user: String,
    pub password: String,
    pub security: Security,
}

impl Account {
    /// Bob at a server in plaintext that no script started: one that a test plays itself.
    pub fn at(port: u16) -> Account {
        Account {
            server: "scripted",
            port,
            tls_port: port,
            direct_port: port,
            ca: PathBuf::new(),
            user: "bob".to_owned(),
            password: "wonderland".to_owned(),
            security: Security::None,
        }
    }

    /// The judge: a connection of this user that goes straight to the server.
    pub fn imap(&self) -> Imap {
        Imap::login(self.direct_port, &self.user, &self.password).unwrap()
    }

    /// The server's own port, whatever is in front of it.
    pub fn direct_port(&self) -> u16 {
        self.direct_port
    }

    /// The same account with mounts going through `proxy` (which must lead to `port`, or to `tls_port` for
    /// [`Security::Implicit`]).
    pub fn through(&self, proxy: &Proxy) -> Account {
        Account { port: proxy.port(), tls_port: proxy.port(), ..self.clone() }
    }

    /// The same account with mounts with this kind of security; STARTTLS unless asked.
    pub fn with(&self, security: Security) -> Account {
        Account { security, ..self.clone() }
    }

    /// A mailbox name as this server spells it on the wire: `a/b` is `INBOX.a.b` on Cyrus and Courier.
    pub fn wire_name(&self, path: &str) -> String {
        match self.server {
            "dovecot" | "mailutils" => path.to_owned(),
            _ if path == "INBOX" => path.to_owned(),
            _ => format!("INBOX.{}", path.replace('/', ".")),
        }
    }

    /// Where that mailbox is in a mount: `INBOX/a/b` on Cyrus and Courier.
    pub fn path_name(&self, path: &str) -> String {
        match self.server {
            "dovecot" | "mailutils" => path.to_owned(),
            _ if path == "INBOX" => path.to_owned(),
            _ => format!("INBOX/{path}"),
        }
    }
}
