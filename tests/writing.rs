//! Programs write files into a mount: what each of them leaves on the server, judged by another client.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::corpus::build;
use common::proxy::Proxy;
use common::{Account, Mount, Server, wait_for};

/// A directory outside of the mount that holds `mail.eml`, and the octets of that.
fn outside() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mail = build::message("written", "Written here", &[], build::TEXT);
    std::fs::write(dir.path().join("mail.eml"), &mail).unwrap();
    (dir, mail)
}

/// Runs a script in the mount; `$src` is a directory outside of it.
fn run(mount: &Mount, src: &Path, script: &str) -> Output {
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(mount.path()).env("src", src).env("LC_ALL", "C.UTF-8").env("HOME", src);
    command.output().unwrap()
}

/// The same, which has to go well.
fn runs(mount: &Mount, src: &Path, script: &str) {
    let output = run(mount, src, script);
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The messages of a mailbox by UID.
fn messages(account: &Account, mailbox: &str) -> Vec<(u32, Vec<u8>)> {
    let mut imap = account.imap();
    if imap.select(mailbox).unwrap() == 0 {
        return Vec::new();
    }
    imap.bodies("1:*").unwrap().into_iter().collect()
}

fn spool(mount: &Mount) -> PathBuf {
    mount.path().parent().unwrap().join("cache/imapfs/spool")
}

/// Names of spool files.
fn spooled(mount: &Mount) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(spool(mount)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn internal_date(account: &Account, uid: u32) -> String {
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    let answer = imap.ok(&format!("UID FETCH {uid} (UID INTERNALDATE)")).unwrap();
    let line = answer.untagged.into_iter().find(|line| line.text.contains("INTERNALDATE")).unwrap();
    line.text.split('"').nth(1).unwrap().trim().to_owned()
}

/// Whether the spool is empty a moment after the last close, which ends in the background.
fn is_clean(mount: &Mount) -> bool {
    wait_for(Duration::from_secs(5), || spooled(mount).is_empty().then_some(())).is_some()
}

/// However a program writes a file, one message comes of it, octet by octet, which is found under the file's name.
#[test]
fn whatever_writes_a_file_leaves_one_message() {
    let cases = [
        ("cp", "cp $src/mail.eml INBOX/x.eml"),
        ("cp -p", "cp -p $src/mail.eml INBOX/x.eml"),
        ("cp -a", "cp -a $src/mail.eml INBOX/x.eml"),
        (
            "into .eml",
            "cp $src/mail.eml INBOX/.eml/x.eml; cmp INBOX/.eml/x.eml $src/mail.eml && exit; cp $src/mail.eml INBOX/x.eml",
        ),
        ("cat", "cat $src/mail.eml > INBOX/x.eml"),
        ("touch, append", "touch INBOX/x.eml; cat $src/mail.eml >> INBOX/x.eml"),
        ("dd", "dd if=$src/mail.eml of=INBOX/x.eml bs=7 conv=fsync status=none"),
        ("install", "install -m 600 $src/mail.eml INBOX/x.eml"),
        ("mv", "cp $src/mail.eml $src/x.eml; mv $src/x.eml INBOX/"),
        ("tar", "cd $src; cp mail.eml x.eml; tar cf x.tar x.eml; cd - >/dev/null; tar xf $src/x.tar -C INBOX"),
        ("rsync", "cp $src/mail.eml $src/x.eml; rsync -a $src/x.eml INBOX/"),
        ("rsync --inplace", "cp $src/mail.eml $src/x.eml; rsync -a --inplace $src/x.eml INBOX/"),
        ("gio copy", "cp $src/mail.eml $src/x.eml; gio copy $src/x.eml INBOX/x.eml"),
        (
            "scratch",
            "cp $src/mail.eml INBOX/.x.eml.Ab12Cd; cmp INBOX/.x.eml.Ab12Cd $src/mail.eml; mv INBOX/.x.eml.Ab12Cd INBOX/x.eml",
        ),
        (
            "python, anywhere and twice",
            "python3 - <<'END'\nimport os\nm=open(os.environ['src']+'/mail.eml','rb').read()\n\
             f=open('INBOX/x.eml','w+b')\nf.seek(9)\nf.write(m[9:])\nf.seek(0)\nf.write(m[:9])\nf.flush()\nf.seek(0)\n\
             assert f.read()==m\nf.truncate(len(m)+100)\nf.truncate(len(m))\nf.close()\nEND",
        ),
        (
            "memory mapping",
            "python3 - <<'END'\nimport os,mmap\nm=open(os.environ['src']+'/mail.eml','rb').read()\n\
             f=os.open('INBOX/x.eml',os.O_RDWR|os.O_CREAT)\nos.ftruncate(f,len(m))\na=mmap.mmap(f,len(m))\na[:]=m\n\
             a.close()\nos.close(f)\nEND",
        ),
    ];
    for (name, script) in cases {
        let (account, (src, mail)) = (Server::dovecot().account(), outside());
        let mut mount = Mount::new(&account, &[]);
        runs(&mount, src.path(), script);
        let found = messages(&account, "INBOX");
        assert!(found.len() == 1 && found[0].1 == mail, "{name}: {found:?}");
        // It is there by its own name and, unlisted, by the one it was given.
        let listed: Vec<_> = std::fs::read_dir(mount.join("INBOX")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(listed.len(), 1, "{name}: {listed:?}");
        assert_eq!(std::fs::read(mount.message("INBOX", 1).join("message.eml")).unwrap(), mail, "{name}");
        if name != "into .eml" {
            assert_eq!(std::fs::read(mount.join("INBOX/x.eml")).unwrap(), mail, "{name}");
        }
        assert!(is_clean(&mount), "{name}: {:?}", spooled(&mount));
        assert!(mount.unmount(), "{name}");
        mount.assert_quiet(&[]);
    }
}

/// The modification time that a file has at its close is the message's date.
#[test]
fn the_date_is_that_of_the_file() {
    let (account, (src, _)) = (Server::dovecot().account(), outside());
    let mount = Mount::new(&account, &[]);
    runs(&mount, src.path(), "touch -d 2001-02-03T04:05:06Z $src/mail.eml; cp -p $src/mail.eml INBOX/x.eml");
    assert_eq!(internal_date(&account, 1), "03-Feb-2001 04:05:06 +0000");
    let time = mount.join("INBOX/x.eml").metadata().unwrap().modified().unwrap();
    assert_eq!(time, std::time::UNIX_EPOCH + Duration::from_secs(981_173_106));
    // Later it cannot be changed, and nobody is told that it was an error.
    runs(&mount, src.path(), "touch -d 2011-01-01 INBOX/x.eml; chmod 644 INBOX/x.eml");
    assert_eq!(internal_date(&account, 1), "03-Feb-2001 04:05:06 +0000");
}

/// A draft that is written anew takes the place of the old one, under all its names, whatever program does it.
#[test]
fn a_message_is_overwritten_in_its_place() {
    let cases = [
        ("shell", "cat $src/new.eml > $message"),
        ("append", "cp $src/mail.eml $src/new.eml; echo more >> $src/new.eml; echo more >> $message"),
        ("cp", "cp $src/new.eml $message"),
        ("dd", "dd if=$src/new.eml of=$message conv=fsync status=none"),
        ("sed -i", "sed s/Written/Rewritten/ $src/mail.eml > $src/new.eml; sed -i s/Written/Rewritten/ $message"),
        (
            "vim",
            "sed s/Written/Rewritten/ $src/mail.eml > $src/new.eml; vim -es -u NONE -c %s/Written/Rewritten/ -c wq $message",
        ),
        (
            "vim, swap file and backup",
            "sed s/Written/Rewritten/ $src/mail.eml > $src/new.eml
             vim -es -u NONE --cmd 'set swapfile backup backupcopy=no' -c %s/Written/Rewritten/ -c wq $message",
        ),
        ("rename", "cp $src/new.eml ${message%/*}/sedAb12Cd; mv ${message%/*}/sedAb12Cd $message"),
    ];
    for (name, script) in cases {
        for kind in ["message.eml", ".eml", "given name"] {
            let (account, (src, mail)) = (Server::dovecot().account(), outside());
            std::fs::write(src.path().join("new.eml"), build::message("new", "New", &[], "new\r\n")).unwrap();
            let mut mount = Mount::new(&account, &[]);
            let path = if kind == "given name" {
                runs(&mount, src.path(), "cp $src/mail.eml INBOX/x.eml");
                mount.join("INBOX/x.eml")
            } else {
                account.imap().append("INBOX", &mail, "\\Draft", None).unwrap();
                let message = mount.message("INBOX", 1);
                let flat = message.file_name().unwrap().to_str().unwrap();
                if kind == ".eml" { mount.join("INBOX/.eml").join(format!("{flat}.eml")) } else { message.join(kind) }
            };
            let script = format!("message={}\n{script}", path.display());
            runs(&mount, src.path(), &script);
            let new = std::fs::read(src.path().join("new.eml")).unwrap();
            let found = messages(&account, "INBOX");
            // The last line of the draft that was appended ended as lines do here.
            let wanted = if name == "append" { [&mail[..], b"more\r\n"].concat() } else { new };
            assert!(found.len() == 1 && found[0].1 == wanted && found[0].0 > 1, "{name}, {kind}: {found:?}");
            assert_eq!(std::fs::read(&path).unwrap(), wanted, "{name}, {kind}");
            assert_eq!(path.metadata().unwrap().len(), wanted.len() as u64, "{name}, {kind}");
            if kind != "given name" {
                let mut imap = account.imap();
                imap.select("INBOX").unwrap();
                assert!(imap.flags(found[0].0).unwrap().unwrap().contains(&"\\Draft".to_owned()), "{name}, {kind}");
            }
            assert!(mount.unmount(), "{name}, {kind}");
            assert!(spooled(&mount).is_empty(), "{name}, {kind}: {:?}", spooled(&mount));
        }
    }
}

/// What changes nothing sends nothing: the message stays what it is.
#[test]
fn writing_what_is_there_already_makes_no_new_message() {
    let (account, (src, mail)) = (Server::dovecot().account(), outside());
    account.imap().append("INBOX", &mail, "", None).unwrap();
    let mount = Mount::new(&account, &[]);
    let path = mount.message("INBOX", 1).join("message.eml");
    for script in ["touch $message", ": >> $message", "cp $src/mail.eml $message", ": > $message"] {
        runs(&mount, src.path(), &format!("message={}\n{script}", path.display()));
        assert_eq!(messages(&account, "INBOX"), [(1, mail.clone())], "{script}");
        assert_eq!(std::fs::read(&path).unwrap(), mail, "{script}");
    }
}

/// Empty and temporary files are no mail; names that can never become mail are refused at once.
#[test]
fn only_files_called_eml_become_mail() {
    let (account, (src, mail)) = (Server::dovecot().account(), outside());
    account.imap().append("INBOX", &mail, "", None).unwrap();
    let mut mount = Mount::new(&account, &[]);
    let message = mount.message("INBOX", 1);
    for name in ["INBOX/x.txt", "INBOX/.DS_Store", "INBOX/.x.eml", "INBOX/.eml/x", "x.eml", ".imapfs/x.eml"] {
        let error = std::fs::write(mount.join(name), &mail).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{name}");
    }
    let error = std::fs::write(message.join("y.eml"), &mail).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    for part in std::fs::read_dir(&message).unwrap().map(|entry| entry.unwrap().path()) {
        let error = std::fs::OpenOptions::new().write(true).open(&part).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{}", part.display());
    }
    runs(&mount, src.path(), "touch INBOX/empty.eml; cp $src/mail.eml INBOX/4913; ls INBOX | grep -x 4913");
    std::fs::write(message.join(".message.eml.swp"), "swap").unwrap();
    assert_eq!(messages(&account, "INBOX").len(), 1);
    assert!(mount.unmount());
    assert!(spooled(&mount).is_empty(), "{:?}", spooled(&mount));
    assert_eq!(messages(&account, "INBOX").len(), 1);
}

/// A removed file becomes no mail, although it is still being written.
#[test]
fn a_file_that_was_removed_before_its_close_is_forgotten() {
    let (account, (src, _)) = (Server::dovecot().account(), outside());
    let mount = Mount::new(&account, &[]);
    runs(
        &mount,
        src.path(),
        "exec 3> INBOX/x.eml; rm INBOX/x.eml; cat $src/mail.eml >&3; exec 3>&-; ! test -e INBOX/x.eml",
    );
    assert!(is_clean(&mount));
    assert_eq!(messages(&account, "INBOX"), []);
}

/// `cp` of a message within the mount moves no byte of it.
#[test]
fn a_copy_is_made_by_the_server() {
    let account = Server::dovecot().account();
    let mail = build::message("large", "Large", &[], build::base64_lines(&build::noise(2_000_000, 5), 76));
    let mut imap = account.imap();
    imap.append("INBOX", &mail, "\\Flagged", Some("03-Feb-2001 04:05:06 +0000")).unwrap();
    imap.create("Other").unwrap();
    let proxy = Proxy::new(account.port);
    let mut mount = Mount::new(&account.through(&proxy).with(common::Security::None), &[]);
    let name = mount.message("INBOX", 1).file_name().unwrap().to_str().unwrap().to_owned();
    proxy.reset();
    let script = format!("cp INBOX/.eml/{name}.eml Other/\ncp INBOX/{name}/message.eml Other/y.eml");
    runs(&mount, Path::new("/"), &script);
    let stats = proxy.stats();
    assert!(stats.bytes_down < 20_000 && stats.bytes_up < 20_000, "{stats:?}");
    let found = messages(&account, "Other");
    assert!(found.len() == 2 && found.iter().all(|(_, body)| *body == mail));
    imap.select("Other").unwrap();
    assert!(imap.flags(found[0].0).unwrap().unwrap().contains(&"\\Flagged".to_owned()));
    // The names that were given, and what is read by them.
    assert_eq!(std::fs::read(mount.join("Other/y.eml")).unwrap(), mail);
    assert_eq!(mount.join(format!("Other/{name}.eml")).metadata().unwrap().len(), mail.len() as u64);
    // A copy that is changed before its close is a message of its own.
    let path = mount.join(format!("INBOX/.eml/{name}.eml"));
    runs(&mount, Path::new("/"), &format!("{{ cat {}; echo more; }} > Other/z.eml", path.display()));
    assert_eq!(messages(&account, "Other").last().unwrap().1, [&mail[..], b"more\r\n"].concat());
    assert!(mount.unmount());
    assert!(spooled(&mount).is_empty());
}

/// Several processes write one file after another: it is one message, and no part of it is sent before.
#[test]
fn what_children_write_of_a_file_is_sent_when_it_is_complete() {
    let scripts = [
        "{ head -c 100 $src/mail.eml; tail -c +101 $src/mail.eml; } > INBOX/x.eml",
        "(head -c 100 $src/mail.eml; tail -c +101 $src/mail.eml; true) > INBOX/x.eml",
        "sh -c '{ head -c 100 $src/mail.eml; tail -c +101 $src/mail.eml; } > INBOX/x.eml'",
    ];
    for script in scripts {
        let (account, (src, mail)) = (Server::dovecot().account(), outside());
        let mount = Mount::new(&account, &[]);
        runs(&mount, src.path(), script);
        let there = wait_for(Duration::from_secs(5), || messages(&account, "INBOX").pop());
        // A part that was sent before it would have had UID 1.
        assert_eq!(there, Some((1, mail)), "{script}");
    }
}

/// Flags that are set on a file before its close are those of the message, as `cp -a` does.
#[test]
fn flags_that_were_set_before_the_close_are_the_message_s() {
    let (account, (src, _)) = (Server::dovecot().account(), outside());
    let mount = Mount::new(&account, &[]);
    let script = "python3 - <<'END'\nimport os\nf=open('INBOX/x.eml','wb')\n\
        f.write(open(os.environ['src']+'/mail.eml','rb').read())\n\
        os.setxattr(f.fileno(),'user.imap.flags',b'\\\\Flagged work')\nf.close()\nEND";
    runs(&mount, src.path(), script);
    let mut imap = account.imap();
    imap.select("INBOX").unwrap();
    let mut flags = imap.flags(1).unwrap().unwrap();
    flags.retain(|flag| flag != "\\Recent");
    assert_eq!(flags, ["\\Flagged", "work"]);
}

/// A message directory is copied as a directory, by the server.
#[test]
fn a_directory_of_a_message_is_copied_whole() {
    let account = Server::dovecot().account();
    let part = build::attachment("application/octet-stream", "; filename=\"data.bin\"", &build::noise(300_000, 9));
    let mail = build::with_part("attachment", part);
    let mut imap = account.imap();
    imap.append("INBOX", &mail, "", None).unwrap();
    imap.create("Other").unwrap();
    let mut mount = Mount::new(&account, &[]);
    let name = mount.message("INBOX", 1).file_name().unwrap().to_str().unwrap().to_owned();
    for command in ["cp -r", "cp -a", "cp -r --sparse=never --reflink=never"] {
        runs(&mount, Path::new("/"), &format!("{command} INBOX/{name} Other/ && diff -r INBOX/{name} Other/{name}"));
        let found = messages(&account, "Other");
        assert!(found.len() == 1 && found[0].1 == mail, "{command}: {} messages", found.len());
        imap.select("Other").unwrap();
        imap.ok("UID STORE 1:* +FLAGS (\\Deleted)").unwrap();
        imap.ok("EXPUNGE").unwrap();
        imap.ok("UNSELECT").unwrap();
        assert!(mount.unmount(), "{command}");
        mount = Mount::new(&account, &[]);
        assert_eq!(mount.message("INBOX", 1).file_name().unwrap().to_str(), Some(&*name));
    }
}
