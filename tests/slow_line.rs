//! A slow line: what it brings is compressed, and what goes wrong while that is agreed on costs nobody anything.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::corpus::build::{attachment, noise, with_part};
use common::proxy::{Action, Fault, Proxy};
use common::{Mount, Security, Server};

/// Octets of an attachment, and of its body in base64, about.
const SIZE: usize = 1_500_000;
const ENCODED: u64 = SIZE as u64 / 57 * 78;
/// Octets a second.
const LINE: u64 = 3_000_000;

struct SlowLine {
    mount: Mount,
    proxy: Proxy,
    attachments: Vec<(PathBuf, Vec<u8>)>,
}

impl SlowLine {
    /// A mount over a slow line, with three messages in its mailbox.
    fn new(server: &Server, args: &[&str]) -> SlowLine {
        let account = server.account().with(Security::None);
        let proxy = Proxy::new(account.port).line(LINE);
        let contents: Vec<_> = (1..4).map(|seed| noise(SIZE, seed)).collect();
        let uids: Vec<_> = contents
            .iter()
            .map(|content| {
                let part = attachment("application/octet-stream", "; filename=data.bin", content);
                let message = with_part("slow", part);
                account.imap().append("INBOX", &message, "", None).unwrap()
            })
            .collect();
        // The first connection serves what is small, the second bodies.
        let args = [&["--connections", "2", "--timeout", "3"], args].concat();
        let mount = Mount::new(&account.through(&proxy), &args);
        let paths = uids.into_iter().map(|uid| mount.message("INBOX", uid).join("data.bin"));
        let attachments = paths.zip(contents).collect();
        SlowLine { mount, proxy, attachments }
    }

    /// Reads one; the octets that came for it.
    fn read(&self, n: usize) -> u64 {
        let (path, content) = &self.attachments[n];
        self.proxy.reset();
        assert!(fs::read(path).unwrap() == *content, "attachment {n} is another one");
        self.proxy.stats().bytes_down
    }

    /// The share of their octets that the second and the third needed: what comes ahead of its reader belongs to either.
    fn share_of_others(&self) -> f64 {
        (self.read(1) + self.read(2)) as f64 / (2 * ENCODED) as f64
    }
}

fn bodies_shrink(server: &Server) {
    let line = SlowLine::new(server, &[]);
    let first = line.read(0);
    let share = line.share_of_others();
    println!("{ENCODED} octets: {first}, then {share}");
    assert!(share < 0.85, "{share}");
    line.mount.assert_quiet(&["not encrypted"]);
}

#[test]
fn bodies_shrink_on_dovecot() {
    bodies_shrink(Server::dovecot());
}

#[test]
fn bodies_shrink_on_cyrus() {
    bodies_shrink(Server::cyrus());
}

#[test]
fn nothing_shrinks_for_who_does_not_want_it() {
    let line = SlowLine::new(Server::dovecot(), &["--no-compress"]);
    assert!(line.read(0) > ENCODED * 95 / 100);
    assert!(line.share_of_others() > 0.95);
}

/// Wherever the connection is lost, falls silent, or turns into noise.
#[test]
fn what_goes_wrong_while_it_is_agreed_on_costs_nobody_anything() {
    let (asks, agrees) = (" COMPRESS DEFLATE", "OK Begin compression");
    let faults = [
        Fault::up(Fault::before(asks), Action::Rst),
        Fault::up(Fault::after(asks), Action::Fin),
        Fault::down(Fault::before(agrees), Action::Blackhole),
        Fault::down(Fault::after(agrees), Action::Fin),
        Fault::down(Fault::after(agrees), Action::Inject(b"\r\n\xff\xff".to_vec())),
    ];
    for fault in faults {
        let line = SlowLine::new(Server::dovecot(), &[]);
        line.proxy.add(fault.clone().on(2..=2));
        for n in 0..3 {
            line.read(n);
        }
        assert!(line.mount.log().contains("connection closed"), "{fault:?}");
        line.mount.assert_quiet(&["not encrypted"]);
    }
}
