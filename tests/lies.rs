//! A server that tells what is not so: each read is right in full or an error, and all is right once it tells the truth.

mod common;
mod model;

use common::corpus;
use model::lies::*;
use model::{Lies, Mounted, Random, Server};

#[tokio::test]
async fn every_file_of_the_corpus_is_what_the_message_holds() {
    let messages = [corpus::messages(), corpus::real()].concat();
    let server = Server::with_messages(messages.iter().map(|message| message.bytes.clone()));
    let mounted = Mounted::new(&server).await;
    let tally = mounted.check_mailbox("INBOX", &mut Random::new(1)).await;
    tally.expect_no_errors("the corpus");
    println!("{} files", tally.right);
}
