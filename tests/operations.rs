//! What is done through a mount, and what comes of it on three servers, as a table; another client judges.
//!
//! An operation is a shell script that runs in a directory with these mailboxes and messages:
//! ```text
//! A/        one:\Flagged  two  theirs:\Deleted (by another client)
//! A/child/  three
//! B/
//! ```
//! `$one`, `$two` and `$three` are message directories, `$one_eml` is the first as a file, `$src` a directory outside of
//! the mount with the message `new.eml` and other files. `$X`, `$F` and `$R` are the same directory in mounts with
//! `--delete expunge`, `--delete flag` and `--read-only`, and `$M` is the mount itself.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{fs, io};

use common::corpus::build;
use common::imap::Answer;
use common::{Account, Imap, Mount, Server};

/// A script and what comes of it: on all servers, or on Dovecot, Cyrus and Courier. That is an errno, with nothing
/// changed; or what changed on the server, in words: `+B/one:\Seen` a message with its flags, `+Neu/` a mailbox,
/// `+B:subscribed` a property of one, `A>B/A` all of a mailbox with another name. Nothing: it went well, without a trace.
type Row = (&'static str, &'static [&'static str]);

const MAILBOXES: &[Row] = &[
    ("mkdir Neu", &["+Neu/ +Neu:subscribed"]),
    ("mkdir B/Neu && mkdir B/Neu/er", &["+B/Neu/ +B/Neu:subscribed +B/Neu/er/ +B/Neu/er:subscribed"]),
    ("mkdir -p B/p/q/r && rmdir B/p/q/r", &["+B/p/ +B/p:subscribed +B/p/q/ +B/p/q:subscribed"]),
    ("mkdir 'grün & Co'", &["+gr&APw-n_&-_Co/ +gr&APw-n_&-_Co:subscribed"]),
    ("mkdir A", &["EEXIST"]),
    ("mkdir a.b", &["+a.b/ +a.b:subscribed", "EINVAL", "EINVAL"]),
    ("mkdir a%2Fb", &["EINVAL"]),
    ("mkdir .Trash-1000", &["EPERM"]),
    ("mkdir .git", &["EPERM"]),
    // Where mailboxes are maildirs this is no name for one.
    ("mkdir new", &["EPERM", "+new/ +new:subscribed"]),
    ("mkdir A/.eml", &["EEXIST"]),
    ("mkdir 2024-03-05T0900_Nobody_nothing.77", &["EPERM"]),
    ("mkdir $one/new", &["EPERM"]),
    ("mkdir A/.eml/new", &["EPERM"]),
    ("mv A Neu", &["A>Neu"]),
    ("mv A B", &["A>B/A"]),
    ("mv A/child .", &["A/child>child"]),
    ("mkdir Neu && mv Neu B/other && rmdir B/other", &[""]),
    ("rename $M/INBOX $M/else", &["EBUSY"]),
    ("rename A A/child/new", &["EINVAL"]),
    ("rename B A/child", &["EEXIST"]),
    ("rename B .git", &["EPERM"]),
    ("rename B $one/B", &["EPERM"]),
    ("rename B 2024-03-05T0900_Nobody_nothing.77", &["EPERM"]),
    ("rmdir B", &["-B/"]),
    ("rm -r B", &["-B/"]),
    ("rmdir A/child", &["ENOTEMPTY"]),
    ("mkdir B/Neu && { rmdir B; e=$?; rmdir B/Neu; exit $e; }", &["ENOTEMPTY"]),
    ("rmdir $M/INBOX", &["EBUSY"]),
    ("rmdir A/.eml", &["EPERM"]),
];

const MESSAGES: &[Row] = &[
    ("mv $one B && test -e B/${one#A/} && ! test -e $one", &["-A/one:\\Flagged +B/one:\\Flagged"]),
    ("mv $one B && mv B/${one#A/} A && test -e $one", &[""]),
    ("mv A/2024* B", &["-A/one:\\Flagged -A/two -A/theirs:\\Deleted +B/one:\\Flagged +B/two +B/theirs:\\Deleted"]),
    ("mv $one_eml B/mine.eml && cmp B/mine.eml $src/one.eml", &["-A/one:\\Flagged +B/one:\\Flagged"]),
    ("mv $one_eml B/.eml", &["-A/one:\\Flagged +B/one:\\Flagged"]),
    ("rename $one A/other", &["EPERM"]),
    ("rename $one B/other", &["EPERM"]),
    ("rename $one $M/${one#A/}", &["EPERM", "EPERM", "EPERM"]),
    ("rename $one/body.txt B/body.txt", &["EPERM"]),
    ("rename $one $two", &["EPERM"]),
    ("rm -r $one", &["-A/one:\\Flagged +Trash/one:\\Flagged"]),
    ("rmdir $two", &["-A/two +Trash/two"]),
    ("rm $one_eml", &["-A/one:\\Flagged +Trash/one:\\Flagged"]),
    ("rm -r $X/$one && ! test -e $X/$one", &["-A/one:\\Flagged"]),
    ("rm -r $F/$one && ! test -e $F/$one", &["-A/one:\\Flagged +A/one:\\Deleted,\\Flagged"]),
    ("rm $one/data.bin && ! test -e $one/data.bin", &[""]),
    ("rm A/.messages.tsv", &["EPERM"]),
    ("unlink A", &["EISDIR"]),
];

const ATTRIBUTES: &[Row] = &[
    ("set user.imap.flags '\\Seen work' $one", &["-A/one:\\Flagged +A/one:\\Seen,work"]),
    ("set user.imap.flags '' $one", &["-A/one:\\Flagged +A/one"]),
    ("set user.imap.flags '\\Answered' $one_eml", &["-A/one:\\Flagged +A/one:\\Answered"]),
    ("set user.xdg.tags 'Unread,Flagged,home' $one", &["-A/one:\\Flagged +A/one:\\Flagged,home"]),
    ("set user.xdg.tags Flagged $one/data.bin", &["-A/one:\\Flagged +A/one:\\Flagged,\\Seen"]),
    ("set user.imap.flags x $one && setfattr -x user.imap.flags $one", &["-A/one:\\Flagged +A/one"]),
    ("set user.imap.flags '\\Recent' $one", &["EINVAL"]),
    ("set user.imap.flags 'a)' $one", &["EINVAL"]),
    ("set user.xdg.tags 'two words' $one", &["EINVAL"]),
    ("set user.imap.uid 9 $one", &["EPERM"]),
    ("set user.mime_type text/html $one/body.txt", &["EPERM"]),
    ("set user.imap.messages 9 A", &["EPERM"]),
    ("set user.imap.uid $(get user.imap.uid $one) $one", &[""]),
    ("set user.baloo.rating 5 $one", &["EOPNOTSUPP"]),
    ("set trusted.x 5 $one", &["EOPNOTSUPP"]),
    ("set user.imap.subscribed 1 B", &["+B:subscribed"]),
    ("set user.imap.subscribed 1 B && set user.imap.subscribed 0 B", &[""]),
    ("set user.imap.subscribed maybe B", &["EINVAL"]),
    ("set user.imap.acl \"$(get user.imap.acl B) bob=lr\" B", &["+B:acl:bob=lr"]),
    ("set user.imap.acl nonsense B", &["EINVAL"]),
    ("set user.imap.metadata.private/comment mine B", &["+B:comment:mine", "+B:comment:mine", "EOPNOTSUPP"]),
    ("set user.imap.metadata.nowhere x B", &["EINVAL"]),
];

const FILES: &[Row] = &[
    ("cp $src/new.eml B && cmp B/new.eml $src/new.eml", &["+B/new"]),
    ("cp $src/new.eml B/.eml", &["+B/new"]),
    ("cp $src/new.eml B/.new.eml.Ab12Cd && mv B/.new.eml.Ab12Cd B/new.eml", &["+B/new"]),
    ("touch -d 2001-02-03T04:05:06Z $src/new.eml && cp -p $src/new.eml B", &["+B/new@2001-02-03"]),
    ("with_flags B/new.eml", &["+B/new:\\Seen,work"]),
    ("cp $one_eml B", &["+B/one:\\Flagged"]),
    ("cp $one/message.eml B/copy.eml", &["+B/one:\\Flagged"]),
    ("cp -r $one B && diff -r $one B/${one#A/}", &["+B/one:\\Flagged"]),
    ("cp -a $one B", &["+B/one:\\Flagged"]),
    ("rm B/copy.eml 2>/dev/null; cp $one_eml B/copy.eml && rm B/copy.eml", &["+Trash/one:\\Flagged"]),
    (
        "cat $src/new.eml > $one/message.eml && cmp $one/message.eml $src/new.eml",
        &["-A/one:\\Flagged +A/new@now:\\Flagged"],
    ),
    ("sed -i s/one/ONE/ $one/message.eml", &["-A/one:\\Flagged +A/ONE@now:\\Flagged"]),
    ("cp $src/one.eml $one/message.eml && : > $two/message.eml", &[""]),
    ("cp $src/invalid.eml B", &["EINVAL"]),
    ("touch B/empty.eml", &[""]),
    ("cp $src/new.eml B/new.txt", &["EPERM"]),
    ("cp $src/new.eml B/.DS_Store", &["EPERM"]),
    ("cp $src/new.eml $one", &["EPERM"]),
    ("cp $src/new.eml $one/body.txt", &["EPERM"]),
    ("cp $src/new.eml A/.messages.tsv", &["EPERM"]),
    ("ln $one/body.txt B/x", &["EPERM"]),
    ("ln -s x B/x", &["EPERM"]),
    ("mkfifo B/x", &["EPERM"]),
    ("mknod B/x c 1 3", &["EPERM"]),
    ("truncate -s 5 $one/body.txt", &["EPERM"]),
];

const READ_ONLY: &[Row] = &[
    ("mkdir $R/new", &["EROFS"]),
    ("rmdir $R/B", &["EROFS"]),
    ("rename $R/A $R/new", &["EROFS"]),
    ("rename $R/$one $R/B/${one#A/}", &["EROFS"]),
    ("rm $R/$one/data.bin", &["EROFS"]),
    ("rmdir $R/$one", &["EROFS"]),
    ("set user.imap.flags '\\Seen' $R/$one", &["EROFS"]),
    ("set user.imap.subscribed 1 $R/B", &["EROFS"]),
    ("set user.imap.acl bob=lr $R/B", &["EROFS"]),
    ("cp $src/new.eml $R/B", &["EROFS"]),
    ("cp -r $one $R/B", &["EROFS"]),
    ("cat $src/new.eml > $R/$one/message.eml", &["EROFS"]),
    ("ln -s x $R/B/x", &["EROFS"]),
    ("cat $R/$one/message.eml | cmp - $src/one.eml", &[""]),
];

const WITHOUT_UIDPLUS: &[Row] = &[
    ("rename $one B/${one#A/}", &["EOPNOTSUPP"]),
    ("rename $one_eml B/mine.eml", &["EOPNOTSUPP"]),
    ("rmdir $one", &["EOPNOTSUPP"]),
    ("rm -r $one", &["EOPNOTSUPP"]),
    ("rm -r $X/$one", &["EOPNOTSUPP"]),
    ("rm -r $F/$one", &["-A/one:\\Flagged +A/one:\\Deleted,\\Flagged"]),
    ("cat $src/new.eml > $one/message.eml; cat $src/new.eml | dd of=$one/message.eml status=none", &["EOPNOTSUPP"]),
    ("cp $one_eml B", &["+B/one:\\Flagged"]),
    ("cp -r $one B", &["+B/one:\\Flagged"]),
    ("cp $src/new.eml B", &["+B/new"]),
    ("set user.imap.flags '\\Seen' $one", &["-A/one:\\Flagged +A/one:\\Seen"]),
    ("mv A B && mkdir Neu && rmdir Neu", &["A>B/A"]),
];

/// What the scripts call.
const FUNCTIONS: &str = r#"
set() { setfattr -n "$1" -v "$2" "$3"; }
get() { getfattr --only-values -n "$1" "$2"; }
rename() { python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$@"; }
with_flags() { python3 - "$1" <<'END'
import os, sys
f = open(sys.argv[1], 'wb')
f.write(open(os.environ['src'] + '/new.eml', 'rb').read())
os.setxattr(f.fileno(), 'user.imap.flags', b'\\Seen work')
f.close()
END
}
"#;

const DATE: &str = "05-Mar-2024 10:00:00 +0000";

fn letter(subject: &str) -> Vec<u8> {
    let data = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &build::noise(3000, 3));
    build::multipart(subject, "mixed", &[build::plain(), data])
}

/// An account, another client of it, and its mounts.
struct World {
    account: Account,
    judge: Imap,
    mounts: Vec<(&'static str, Mount)>,
    src: tempfile::TempDir,
}

impl World {
    /// With a set of the mailboxes for each of the rows that are to change something, and one for all others.
    fn new(server: &Server, rows: &[(&str, &str)]) -> World {
        let (account, src) = (server.account(), tempfile::tempdir().unwrap());
        let mut judge = account.imap();
        let subjects = [("one", "\\Flagged"), ("two", ""), ("theirs", "\\Deleted"), ("three", "")];
        for (subject, flags) in subjects {
            assert!(judge.append("INBOX", &letter(subject), flags, Some(DATE)).is_ok());
            fs::write(src.path().join(format!("{subject}.eml")), letter(subject)).unwrap();
        }
        fs::write(src.path().join("new.eml"), letter("new")).unwrap();
        fs::write(src.path().join("invalid.eml"), "this is\nno message\0\n").unwrap();
        let _ = judge.command(&format!("CREATE \"{}\"", account.wire_name("Trash")));
        judge.select("INBOX").unwrap();
        let mut commands = Vec::new();
        let roots: BTreeSet<String> = rows.iter().enumerate().map(|(n, row)| root(n, row.1)).collect();
        for root in roots {
            let name = |path: &str| account.wire_name(&format!("{root}/{path}"));
            commands.extend(["A", "A/child", "B"].map(|path| format!("CREATE \"{}\"", name(path))));
            commands.push(format!("COPY 1:3 \"{}\"", name("A")));
            commands.push(format!("COPY 4 \"{}\"", name("A/child")));
        }
        for commands in commands.chunks(5) {
            pipeline(&mut judge, commands);
        }
        judge.ok("UNSELECT").or_else(|_| judge.ok("CLOSE")).ok();
        let mounts =
            [("M", &[][..]), ("X", &["--delete", "expunge"]), ("F", &["--delete", "flag"]), ("R", &["--read-only"])];
        let mounts = mounts
            .into_iter()
            .map(|(name, args)| (name, Mount::new(&account, &[args, &["--connections", "3"]].concat())));
        World { mounts: mounts.collect(), account, judge, src }
    }

    fn path(&self, mount: &Mount, root: &str) -> PathBuf {
        mount.join(self.account.path_name(root))
    }

    /// Runs a script where the mailboxes of this root are.
    fn run(&self, root: &str, script: &str) -> Output {
        let mount = &self.mounts[0].1;
        let here = self.path(mount, root);
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{FUNCTIONS}\n{script}")]).current_dir(&here).env("src", self.src.path());
        command.env("LC_ALL", "C.UTF-8").env("M", mount.path());
        for (name, mount) in &self.mounts[1..] {
            command.env(name, self.path(mount, root));
        }
        let name = |directory: &str, subject: &str| {
            let names = fs::read_dir(here.join(directory)).unwrap().map(|entry| entry.unwrap().file_name());
            let names = names.map(|name| name.into_string().unwrap());
            names.into_iter().find(|name| name.contains(&format!("_{subject}."))).unwrap_or_default()
        };
        let one = name("A", "one");
        command.env("one_eml", format!("A/.eml/{one}.eml")).env("one", format!("A/{one}"));
        command
            .env("two", format!("A/{}", name("A", "two")))
            .env("three", format!("A/child/{}", name("A/child", "three")));
        command.output().unwrap()
    }

    /// What there is on the server: in the mailboxes of one root, in INBOX, and in the trash, which is empty afterwards.
    fn seen(&mut self, root: &str) -> BTreeSet<String> {
        let prefix = self.account.wire_name(&format!("{root}/"));
        let delimiter = if self.account.server == "dovecot" { "/" } else { "." };
        let name = |text: &str| {
            let wire = text[text.find(&prefix)?..].trim_end_matches('"').to_owned();
            Some((wire[prefix.len()..].replace(delimiter, "/"), wire))
        };
        let mut seen = BTreeSet::new();
        let trash = self.account.wire_name("Trash");
        let mut mailboxes = vec![("INBOX".to_owned(), "INBOX".to_owned()), ("Trash".to_owned(), trash.clone())];
        let lists = pipeline(&mut self.judge, &["LIST", "LSUB"].map(|list| format!("{list} \"\" \"{prefix}*\"")));
        for row in lists.iter().flat_map(|answer| &answer.untagged) {
            let Some((path, wire)) = name(&row.text) else { continue };
            let shown = path.replace(' ', "_");
            let is_none = row.text.to_ascii_lowercase().contains("\\noselect");
            if row.text.starts_with("* LSUB") {
                // Or something below it is.
                seen.extend((!is_none).then(|| format!("{shown}:subscribed")));
            } else if is_none {
                seen.insert(format!("{shown}/:none"));
            } else {
                seen.insert(format!("{shown}/"));
                mailboxes.push((path, wire));
            }
        }
        if seen.contains("B/") {
            seen.extend(self.properties(&self.account.wire_name(&format!("{root}/B"))));
        }
        let read = |(_, wire): &(String, String)| {
            [format!("SELECT \"{wire}\""), "UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])".to_owned()]
        };
        let answers = pipeline(&mut self.judge, &mailboxes.iter().flat_map(read).collect::<Vec<_>>());
        for ((path, _), answers) in mailboxes.iter().zip(answers.chunks(2)) {
            let messages = answers[1].untagged.iter().filter(|row| row.text.contains("BODY[]"));
            seen.extend(messages.map(|row| format!("{path}/{}", message(&row.text, &row.literals[0]))));
        }
        let empty = ["UID STORE 1:* +FLAGS.SILENT (\\Deleted)", "EXPUNGE"].map(str::to_owned);
        self.judge.select(&trash).unwrap();
        pipeline(&mut self.judge, &empty);
        // What is selected here could not be removed there.
        self.judge.select("INBOX").unwrap();
        seen
    }

    /// What `B` was given by attributes.
    fn properties(&mut self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let acl = self.judge.ok(&format!("GETACL \"{name}\"")).unwrap();
        for row in acl.untagged.iter().filter(|row| row.text.starts_with("* ACL")) {
            let words: Vec<&str> = row.text.split(' ').map(|word| word.trim_matches('"')).collect();
            let bob = words.windows(2).filter(|pair| pair[0].ends_with("bob"));
            found.extend(bob.map(|pair| format!("B:acl:{}={}", pair[0], pair[1])));
        }
        if self.account.server != "courier" {
            let comment = self.judge.ok(&format!("GETMETADATA \"{name}\" /private/comment")).unwrap();
            let row = comment.untagged.iter().find(|row| row.text.starts_with("* METADATA"));
            let value = row.and_then(|row| match row.literals.first() {
                Some(literal) => String::from_utf8(literal.clone()).ok(),
                None => row.text.split_once("/comment")?.1.split_once(" \"")?.1.split('"').next().map(str::to_owned),
            });
            found.extend(value.map(|value| format!("B:comment:{value}")));
        }
        found
    }
}

/// Sends all commands and then reads their answers, each of which has to be OK.
fn pipeline(judge: &mut Imap, commands: &[String]) -> Vec<Answer> {
    let tags: Vec<String> = commands.iter().map(|command| judge.send(command).unwrap()).collect();
    let answers = tags.iter().zip(commands).map(|(tag, command)| {
        let answer = judge.answer(tag).unwrap();
        assert!(answer.is_ok(), "{command}: {answer:?}");
        answer
    });
    answers.collect()
}

/// A message of a FETCH answer: its subject, with its date if that is not what it was, and its flags.
fn message(text: &str, body: &[u8]) -> String {
    let subject = String::from_utf8_lossy(body);
    let subject = subject.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().trim();
    let list = text.split_once("FLAGS (").unwrap().1.split(')').next().unwrap();
    let flags: BTreeSet<&str> = list.split_whitespace().filter(|flag| *flag != "\\Recent").collect();
    let date = text.split_once("INTERNALDATE \"").unwrap().1.split(' ').find(|word| !word.is_empty()).unwrap();
    let altered = body != letter(subject).as_slice();
    [
        subject.to_owned(),
        match date.trim_start_matches('0') {
            "5-Mar-2024" => String::new(),
            "3-Feb-2001" => "@2001-02-03".to_owned(),
            _ => "@now".to_owned(),
        },
        if altered { "(altered)".to_owned() } else { String::new() },
        if flags.is_empty() { String::new() } else { format!(":{}", flags.into_iter().collect::<Vec<_>>().join(",")) },
    ]
    .concat()
}

/// What there is, after what an outcome tells of.
fn after(before: &BTreeSet<String>, outcome: &str) -> BTreeSet<String> {
    let mut lines = before.clone();
    for word in outcome.split_whitespace() {
        if let Some((from, to)) = word.split_once('>') {
            let renamed = |line: String| match line.strip_prefix(from) {
                Some(rest) if rest.starts_with('/') => format!("{to}{rest}"),
                _ => line,
            };
            lines = lines.into_iter().map(renamed).collect();
        } else if let Some(line) = word.strip_prefix('-') {
            assert!(lines.remove(line), "{line} is not there to go");
        } else {
            lines.insert(word[1..].to_owned());
        }
    }
    lines
}

const ERRNOS: [(&str, i32); 9] = [
    ("EPERM", libc::EPERM),
    ("EEXIST", libc::EEXIST),
    ("EINVAL", libc::EINVAL),
    ("EBUSY", libc::EBUSY),
    ("EISDIR", libc::EISDIR),
    ("ENOTEMPTY", libc::ENOTEMPTY),
    ("EOPNOTSUPP", libc::EOPNOTSUPP),
    ("EROFS", libc::EROFS),
    ("EACCES", libc::EACCES),
];

/// The words for an errno.
fn words(name: &str) -> Option<String> {
    let errno = ERRNOS.iter().find(|errno| errno.0 == name)?.1;
    Some(io::Error::from_raw_os_error(errno).to_string().split(" (os").next().unwrap().to_owned())
}

/// The mailboxes that a row has to itself, if it is to change anything.
fn root(number: usize, outcome: &str) -> String {
    if words(outcome).is_some() { "refused".to_owned() } else { format!("r{number}") }
}

fn check(server: &Server, rows: &[Row]) {
    let which = ["dovecot", "cyrus", "courier"].iter().position(|name| *name == server.name).unwrap();
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.0, row.1[which.min(row.1.len() - 1)])).collect();
    let mut world = World::new(server, &rows);
    let before = world.seen("refused");
    let mut wrong = Vec::new();
    let compare = |world: &mut World, root: &str, script: &str, outcome: &str| {
        let (seen, wanted) = (world.seen(root), after(&before, outcome));
        let (missing, more): (Vec<_>, Vec<_>) =
            (wanted.difference(&seen).collect(), seen.difference(&wanted).collect());
        if seen == wanted {
            None
        } else {
            Some(format!("{script}: {outcome:?}: missing {missing:?}, too much {more:?}"))
        }
    };
    for (number, (script, outcome)) in rows.iter().enumerate() {
        let root = root(number, outcome);
        let output = world.run(&root, script);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let (errno, success) = (words(outcome), output.status.success());
        let is_so = errno.as_ref().map_or(success && said.is_empty(), |words| !success && said.contains(words));
        wrong.extend((!is_so).then(|| format!("{script}: {outcome:?}: {said}")));
        if errno.is_none() {
            wrong.extend(compare(&mut world, &root, script, outcome));
        }
    }
    wrong.extend(compare(&mut world, "refused", "what was refused", ""));
    assert!(wrong.is_empty(), "{} on {}:\n{}", wrong.len(), server.name, wrong.join("\n"));
}

#[test]
fn what_is_done_to_mailboxes_and_attributes_on_dovecot() {
    check(Server::dovecot(), &[MAILBOXES, ATTRIBUTES].concat());
}

#[test]
fn what_is_done_to_mailboxes_and_attributes_on_cyrus() {
    check(Server::cyrus(), &[MAILBOXES, ATTRIBUTES].concat());
}

#[test]
fn what_is_done_to_mailboxes_and_attributes_on_courier() {
    check(Server::courier(), &[MAILBOXES, ATTRIBUTES].concat());
}

#[test]
fn what_is_done_to_messages_and_files_on_dovecot() {
    check(Server::dovecot(), &[MESSAGES, FILES, READ_ONLY].concat());
}

#[test]
fn what_is_done_to_messages_and_files_on_cyrus() {
    check(Server::cyrus(), &[MESSAGES, FILES, READ_ONLY].concat());
}

#[test]
fn what_is_done_to_messages_and_files_on_courier() {
    check(Server::courier(), &[MESSAGES, FILES, READ_ONLY].concat());
}

/// Where messages cannot be expunged by UID, nothing is that is not ours to expunge.
#[test]
fn what_is_done_where_there_is_neither_uidplus_nor_move() {
    let capabilities =
        "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UNSELECT CHILDREN LIST-EXTENDED SPECIAL-USE";
    let server = Server::start("dovecot", &[("DOVECOT_CAPS", capabilities), ("DOVECOT_MAXCONN", "100")]);
    check(&server, WITHOUT_UIDPLUS);
}
