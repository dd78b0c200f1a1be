//! Fills a mailbox with the tests' odd messages: `corpus PORT USER PASSWORD MAILBOX` (plaintext, 127.0.0.1).

#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/corpus/mod.rs"]
mod corpus;
#[path = "../tests/common/imap.rs"]
mod imap;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, user, password, mailbox] = args.as_slice() else {
        eprintln!("usage: corpus PORT USER PASSWORD MAILBOX");
        std::process::exit(64);
    };
    let mut imap = imap::Imap::login(port.parse().unwrap(), user, password).unwrap();
    let _ = imap.command(&format!("CREATE {}", imap::quote(mailbox))).unwrap();
    let messages = [corpus::messages(), corpus::real()].concat();
    let answers = corpus::append(&mut imap, mailbox, &messages);
    for (message, answer) in messages.iter().zip(&answers) {
        match answer {
            Ok(uid) => println!("{uid}\t{}", message.name),
            Err(error) => println!("-\t{}\t{error}", message.name),
        }
    }
}
