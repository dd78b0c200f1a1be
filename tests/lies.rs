//! A server that tells what is not so: each read is right in full or an error, and all is right once it tells the truth.

#![allow(clippy::unwrap_used)]

mod common;
mod model;

use std::sync::LazyLock;

use common::corpus;
use common::corpus::build;
use imapfs::error::Error;
use model::lies::{Bodies, Octets, Ranges, Rows, Structure};
use model::message::Message;
use model::server::Cut;
use model::walk::Tally;
use model::{Lies, Mounted, Random, Server};

/// What must come of a lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It costs exchanges, and nothing else.
    AllIsRight,
    /// What cannot be known is an error.
    RightOrError,
}

/// One in eight of the corpus, each lie its own, and parts that are longer than a piece.
fn messages(lies: Lies) -> Vec<Vec<u8>> {
    let first = format!("{lies:?}").bytes().map(usize::from).sum::<usize>() % 8;
    static ALL: LazyLock<Vec<corpus::Message>> = LazyLock::new(corpus::messages);
    let mut messages: Vec<Vec<u8>> = ALL.iter().skip(first).step_by(8).map(|message| message.bytes.clone()).collect();
    let noise = build::noise(280_000, 5);
    let fields = |cte| ["Content-Disposition: attachment; filename=\"big\"", cte];
    let texts = build::quoted_printable(&build::noise(90_000, 6));
    let lines = b"a line of text that is long enough to be many of them\r\n".repeat(4000);
    for (name, part) in [
        ("big-base64", build::attachment("image/png", "; filename=\"big.png\"", &noise)),
        ("big-one-line", build::part("image/gif", &fields(build::CTE64), build::base64(&noise[..200_000]))),
        ("big-qp", build::part("image/gif", &fields(build::CTEQP), texts)),
        ("big-8bit", build::part("text/csv", &fields(build::CTE8), &lines)),
        ("big-text", build::part("text/plain", &[], &lines)),
    ] {
        messages.push(build::with_part(name, part));
    }
    messages
}

/// Reads everything from a server that lies from the beginning, and again from one that has stopped.
async fn check(lies: Lies, then: Then) -> Tally {
    let messages = messages(lies);
    let server = Server::with_messages(messages.clone());
    let mounted = Mounted::new(&server).await;
    server.lock().lies = lies;
    let told = mounted.check_mailbox("INBOX", &mut Random::new(2)).await;
    if then == Then::AllIsRight {
        told.expect_no_errors(&format!("{lies:?}"));
        assert_eq!(told.messages, messages.len(), "{lies:?}");
    }
    for (what, error) in &told.errors {
        let is_meant = matches!(error, Error::Protocol(_) | Error::Stale | Error::NotFound | Error::TooBig(_));
        assert!(is_meant, "{lies:?}: {what}: {error:?}");
    }
    server.lock().lies = Lies::default();
    let healed = mounted.check_mailbox("INBOX", &mut Random::new(3)).await;
    healed.expect_no_errors(&format!("after {lies:?}"));
    assert_eq!(healed.messages, messages.len(), "after {lies:?}");
    told
}

#[tokio::test]
async fn every_file_of_the_corpus_is_what_the_message_holds() {
    let messages = [corpus::messages(), corpus::real()].concat();
    let server = Server::with_messages(messages.iter().map(|message| message.bytes.clone()));
    let mounted = Mounted::new(&server).await;
    let tally = mounted.check_mailbox("INBOX", &mut Random::new(1)).await;
    tally.expect_no_errors("the corpus");
    assert!(tally.right > 3 * messages.len());
}

#[tokio::test]
async fn wrong_lengths_of_parts_are_corrected() {
    let off = [-2, -1, 1, 2, 300].map(Octets::Off);
    for octets in [&off[..], &[Octets::Zero, Octets::Huge]].concat() {
        check(Lies { octets, ..Lies::default() }, Then::AllIsRight).await;
    }
}

#[tokio::test]
async fn ranges_that_are_not_what_was_asked_for_are_done_without() {
    for ranges in [
        Ranges::Whole,
        Ranges::WholeWithoutOrigin,
        Ranges::WrongOrigin,
        Ranges::NoOrigin,
        Ranges::ShortAtEnd,
        Ranges::Short,
        Ranges::Long,
        Ranges::Empty,
        Ranges::Refused,
    ] {
        check(Lies { ranges, ..Lies::default() }, Then::AllIsRight).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_an_error_and_never_short_data() {
    for bodies in
        [Bodies::Nil, Bodies::Missing, Bodies::NoRow, Bodies::Empty, Bodies::MessageShort, Bodies::MessageLong]
    {
        let told = check(Lies { bodies, ..Lies::default() }, Then::RightOrError).await;
        assert!(!told.errors.is_empty(), "{bodies:?}");
    }
}

#[tokio::test]
async fn a_structure_that_makes_no_sense_is_made_here() {
    for structure in [Structure::Odd, Structure::MultipartLeaf] {
        check(Lies { structure, ..Lies::default() }, Then::AllIsRight).await;
    }
    check(Lies { structure: Structure::Missing, ..Lies::default() }, Then::RightOrError).await;
}

#[tokio::test]
async fn sections_inside_attached_messages_are_not_asked_for() {
    check(Lies { inner_sections: true, ..Lies::default() }, Then::AllIsRight).await;
}

#[tokio::test]
async fn rows_that_were_not_asked_for_or_do_not_come_hide_no_message() {
    for lies in [
        Lies { rows: Rows::Unasked, ..Lies::default() },
        Lies { rows: Rows::WithoutUid, ..Lies::default() },
        Lies { rows: Rows::Twice, ..Lies::default() },
        Lies { rows: Rows::Half, ..Lies::default() },
        Lies { extra_exists: 7, ..Lies::default() },
        Lies { extra_uids: true, ..Lies::default() },
        Lies { extra_uids: true, extra_exists: 7, ..Lies::default() },
        Lies { no_uid_next: true, ..Lies::default() },
    ] {
        check(lies, Then::AllIsRight).await;
    }
}

/// All that a user may do with a small account; what is seen is right, or an error.
async fn session(mounted: &Mounted, seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for name in ["INBOX", "Lists/rust"] {
        let one = mounted.check_mailbox(name, &mut random).await;
        tally.messages += one.messages;
        tally.right += one.right;
        tally.errors.extend(one.errors);
        for view in [".messages.tsv", ".eml"] {
            match mounted.find(&format!("{name}/{view}")).await {
                Ok(_) => tally.right += 1,
                Err(error) => tally.errors.push((view.to_owned(), error)),
            }
        }
    }
    tally
}

fn two_mailboxes() -> Server {
    let attachment = build::attachment("image/png", "; filename=\"a.png\"", &build::noise(40_000, 5));
    let inner = build::message("inner", "inner", &[], build::TEXT);
    let forwarded = build::with_part("forwarded", build::part("message/rfc822", &[], inner));
    let server = Server::with_messages([build::with_part("attachment", attachment), forwarded]);
    server.create("Lists/rust");
    server.append("Lists/rust", Message::new(build::message("c", "C", &[], build::TEXT)));
    server
}

/// The connection is lost at each command in turn, in four ways.
#[tokio::test]
async fn a_lost_connection_is_an_error_and_never_short_data() {
    let server = two_mailboxes();
    let whole = session(&Mounted::new(&server).await, 8).await;
    whole.expect_no_errors("no cut");
    let commands = server.exchanges().len();
    assert!(commands > 20, "{commands}");
    let ways = [(1, false, false), (1, true, false), (1, true, true), (usize::MAX / 2, false, true)];
    for at in 0..commands {
        for (count, half, silent) in ways {
            let server = two_mailboxes();
            let cut = Cut { at, count, half, silent };
            server.lock().cut_at = Some(cut);
            let mounted = match Mounted::try_new(&server, model::walk::options()).await {
                Ok(mounted) => mounted,
                Err(error) => {
                    assert!(at == 0 && matches!(error, Error::Offline(_)), "{cut:?}: {error:?}");
                    continue;
                }
            };
            let told = session(&mounted, 8).await;
            for (what, error) in &told.errors {
                assert!(matches!(error, Error::Offline(_)), "{cut:?}: {what}: {error:?}");
            }
            assert!(!told.errors.is_empty() || told.right == whole.right, "{cut:?}: {told:?}");
            server.lock().cut_at = None;
            let healed = session(&mounted, 9).await;
            healed.expect_no_errors(&format!("after {cut:?}"));
            assert_eq!((healed.messages, healed.right), (whole.messages, whole.right), "after {cut:?}");
        }
    }
}
