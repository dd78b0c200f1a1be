//! Ordinary programs over a mount: each does there what it does over a plain copy of the same mail.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::corpus::build::{base64, base64_lines, noise, png, quoted_printable, uuencode};
use common::{Account, Mount, Server};
use tempfile::TempDir;

/// One file of a message: its name in the mount, its content there, and its part in the mail.
struct Piece {
    path: &'static str,
    content: Vec<u8>,
    part: Vec<u8>,
}

fn piece(path: &'static str, content_type: &str, encoding: &str, encoded: Vec<u8>, content: &[u8]) -> Piece {
    let name = path.rsplit('/').next().unwrap();
    let disposition = if name.starts_with("body.") { "inline".into() } else { format!("attachment; filename={name}") };
    let head = format!(
        "Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\
         Content-Disposition: {disposition}\r\n\r\n"
    );
    Piece { path, content: content.to_vec(), part: [head.as_bytes(), &encoded].concat() }
}

/// A zip archive of two files.
fn zip() -> Vec<u8> {
    let script = "import zipfile, sys, io, os\n\
         out = io.BytesIO()\n\
         with zipfile.ZipFile(out, 'w') as z:\n\
         \tz.writestr(zipfile.ZipInfo('stored.txt'), 'stored\\n' * 9000)\n\
         \tz.writestr(zipfile.ZipInfo('packed.txt'), 'packed\\n' * 90000, zipfile.ZIP_DEFLATED)\n\
         sys.stdout.buffer.write(out.getvalue())";
    let output = Command::new("python3").args(["-c", script]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Base64 whose lines are of all lengths, so that only a pass over all of it tells its size.
fn crooked(data: &[u8]) -> Vec<u8> {
    let text = base64(data);
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    for width in (40..76).cycle() {
        if rest.is_empty() {
            return out;
        }
        let (line, more) = rest.split_at(width.min(rest.len()));
        out.extend([line, b"\r\n"].concat());
        rest = more;
    }
    out
}

const BODY: &str =
    "Grüße aus Köln,\n\nthe needle is here, and needles are there.\n\n  indented\tand tabbed\n.\n-- \nAlice\n";

/// The files of the first message: of each encoding, of odd and even lengths, of each kind that tools look into.
fn pieces() -> Vec<Piece> {
    let table: String = (0..5000).map(|n| format!("{},{},row {n}\n", n * 7919 % 5000, n)).collect();
    let crlf = BODY.replace('\n', "\r\n");
    let big = noise(3_000_017, 1);
    let odd = noise(200_003, 2);
    let text = "text/plain; charset=utf-8";
    let bin = "application/octet-stream";
    let long: String = (0..3000).map(|n| format!("ligne {n} à lire\n")).collect();
    vec![
        piece("body.txt", text, "quoted-printable", quoted_printable(crlf.as_bytes()), BODY.as_bytes()),
        piece("big.bin", bin, "base64", base64_lines(&big, 76), &big),
        piece("odd.bin", bin, "base64", crooked(&odd), &odd),
        piece("narrow.bin", bin, "base64", base64_lines(&odd[..100_001], 60), &odd[..100_001]),
        piece("table.csv", "text/csv", "base64", base64_lines(table.as_bytes(), 76), table.as_bytes()),
        piece("long.txt", text, "base64", base64_lines(long.as_bytes(), 76), long.as_bytes()),
        piece("bundle.zip", "application/zip", "base64", base64_lines(&zip(), 76), &zip()),
        piece("dot.png", "image/png", "base64", base64_lines(&png(), 76), &png()),
        piece("old.bin", bin, "x-uuencode", uuencode("old.bin", &odd[..5000]), &odd[..5000]),
        piece("quoted.bin", bin, "quoted-printable", quoted_printable(&odd[..7001]), &odd[..7001]),
        piece("empty.txt", text, "7bit", Vec::new(), b""),
    ]
}

/// The first message's directory.
const FIRST: &str = "2024-03-05T0900_Alice_first.1";

/// The mail on the server, and what is to be seen of it, written by other means than the mount.
struct Mailbox {
    account: Account,
    /// What the mailbox `INBOX` is to look like.
    reference: TempDir,
}

/// Header, boundary and the directory's files of a message.
fn message(subject: &str, parts: &[Piece], out: &Path) -> Vec<u8> {
    let head = format!(
        "From: Alice <alice@example.test>\nTo: Bob <bob@example.test>\nSubject: {subject}\n\
         Message-ID: <{subject}@example.test>\nDate: Tue, 5 Mar 2024 10:00:00 +0100\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=\"=_{subject}\"\n"
    );
    fs::create_dir_all(out).unwrap();
    fs::write(out.join("headers.txt"), &head).unwrap();
    let mut bytes = format!("{}\r\n", head.replace('\n', "\r\n")).into_bytes();
    for piece in parts {
        if !piece.path.is_empty() {
            fs::write(out.join(piece.path), &piece.content).unwrap();
        }
        bytes.extend([format!("--=_{subject}\r\n").as_bytes(), &piece.part, b"\r\n"].concat());
    }
    bytes.extend(format!("--=_{subject}--\r\n").bytes());
    bytes
}

fn mailbox() -> Mailbox {
    let account = Server::dovecot().account();
    let reference = tempfile::Builder::new().prefix("imapfs-reference-").tempdir().unwrap();
    let mut imap = account.imap();
    let inbox = reference.path();
    let first = inbox.join(FIRST);
    let second = inbox.join("2024-03-05T0900_Alice_second.2");
    let first_bytes = message("first", &pieces(), &first);
    // The second holds a message that is attached, which holds some of the same again.
    let inner = message("inner", &pieces()[..5], &second.join("forwarded-1"));
    let attached = Piece {
        path: "",
        content: Vec::new(),
        part: [b"Content-Type: message/rfc822\r\n\r\n", inner.as_slice()].concat(),
    };
    let mut parts = pieces();
    parts.drain(1..);
    parts.push(attached);
    let second_bytes = message("second", &parts, &second);
    let date = Some("05-Mar-2024 10:00:00 +0100");
    assert_eq!(imap.append("INBOX", &first_bytes, "", date).unwrap(), 1);
    assert_eq!(imap.append("INBOX", &second_bytes, "", date).unwrap(), 2);
    for entry in walk(inbox) {
        let touched = Command::new("touch").args(["-d", "2024-03-05T09:00:00Z"]).arg(&entry).status().unwrap();
        assert!(touched.success());
    }
    Mailbox { account, reference }
}

/// All below a directory, what is deeper first.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

/// Status, standard output and standard error of a script that runs in `directory`, with a new empty `$OUT`, and with
/// `$REF`, the plain copy.
fn run(script: &str, directory: &Path, reference: &Path) -> (Option<i32>, String, String) {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args([
            "60",
            "bash",
            "-c",
            &format!("set -o pipefail; M={FIRST}; {script}; status=$?; chmod -R u+rwX $OUT; exit $status"),
        ])
        .current_dir(directory)
        .env("OUT", out.path())
        .env("REF", reference)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(out.path().to_str().unwrap(), "OUT");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs each script over the plain copy and over a mount that knows nothing yet, and compares.
fn same_as_over_files(scripts: &[&str]) {
    let mailbox = mailbox();
    let reference = mailbox.reference.path();
    let mut failed = Vec::new();
    for script in scripts {
        let program = script.split([' ', '\n']).next().unwrap();
        if OPTIONAL.contains(&program) && !has(program) {
            println!("{program} is not installed");
            continue;
        }
        let expected = run(script, reference, reference);
        assert!(expected.0 == Some(0) || !expected.1.is_empty(), "{script} over files: {expected:?}");
        let mount = Mount::new(&mailbox.account, &["--read-only"]);
        let seen = run(script, &mount.join("INBOX"), reference);
        if seen != expected {
            let cut = |text: &str| text.chars().take(600).collect::<String>();
            failed.push(format!("{script}\n  {:?} {:?} {:?}", seen.0, cut(&seen.1), cut(&seen.2)));
            failed.push(format!("  over files: {:?} {:?} {:?}", expected.0, cut(&expected.1), cut(&expected.2)));
        }
        mount.assert_quiet(&[]);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Programs that are not installed for the sake of these tests.
const OPTIONAL: [&str; 4] = ["gio", "git", "xxd", "rg"];

fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success()
}

#[test]
fn programs_that_read_from_the_start_read_the_same() {
    same_as_over_files(&[
        "cat */*.bin | sha256sum",
        "sha256sum */* 2>/dev/null",
        "md5sum $M/*",
        "cksum $M/*",
        "wc */*.txt",
        "wc -c $M/*",
        "sort -n $M/table.csv | sha256sum",
        "tac $M/long.txt | sha256sum",
        "nl $M/body.txt",
        "od -A x -t x1z $M/odd.bin | sha256sum",
        "xxd $M/narrow.bin | sha256sum",
        "base64 $M/big.bin | sha256sum",
        "gzip -c $M/big.bin | gzip -dc | sha256sum",
        "file $M/*",
        "less -f $M/body.txt | cat",
        "more -f $M/long.txt | sha256sum",
        "git hash-object */*.bin",
        "awk -F, '{ n += $1 } END { print n, NR }' $M/table.csv",
        "sed -n '$p; 100,105p' $M/long.txt",
        "cut -d, -f2 $M/table.csv | paste -s | sha256sum",
        "iconv -f utf-8 -t utf-16 $M/long.txt | sha256sum",
    ]);
}

#[test]
fn programs_that_seek_read_the_same() {
    same_as_over_files(&[
        "head -c 1 $M/big.bin | od -c",
        "head -c 100001 $M/odd.bin | sha256sum",
        "head -n 3 $M/table.csv",
        "tail -c 1 $M/big.bin | od -c",
        "tail -c 100003 $M/odd.bin | sha256sum",
        "tail -n 2 $M/long.txt",
        "tail -c +2999999 $M/big.bin | sha256sum",
        "dd if=$M/big.bin bs=777 skip=3333 count=99 status=none | sha256sum",
        "dd if=$M/odd.bin bs=1 skip=199990 status=none | sha256sum",
        "dd if=$M/quoted.bin bs=13 skip=500 status=none | sha256sum",
        "dd if=$M/old.bin bs=1000 skip=4 status=none | sha256sum",
        "dd if=$M/big.bin bs=1M skip=2 status=none iflag=fullblock | sha256sum",
        "dd if=$M/big.bin bs=4096 skip=700 count=10 iflag=direct status=none | sha256sum",
        "dd if=$M/big.bin bs=64k skip=999 status=none 2>&1 | wc -c",
        "cmp -n 100000 -i 50000 $M/big.bin $REF/$M/big.bin && echo same",
        "for f in $M/*; do cmp $f $REF/$f && echo $f; done",
        "unzip -t $M/bundle.zip",
        "unzip -p $M/bundle.zip packed.txt | sha256sum",
        "python3 -m zipfile -l $M/bundle.zip",
        "python3 -c 'import sys, zlib, zipfile\n\
             print(zlib.crc32(zipfile.ZipFile(sys.argv[1]).read(\"stored.txt\")))' $M/bundle.zip",
        "python3 -c 'import mmap, sys, hashlib\n\
             with open(sys.argv[1], \"rb\") as f: m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
             print(len(m), hashlib.sha256(m[1000:-1000]).hexdigest(), m[-5:])' $M/big.bin",
    ]);
}

#[test]
fn programs_that_search_find_the_same() {
    same_as_over_files(&[
        "grep -r needle . | sort",
        "grep -rc needle --include='*.txt' . | sort",
        "grep -rl 'Köln' . | sort",
        "grep -n 'à lire$' $M/long.txt | tail -n 3",
        "grep -c '' $M/table.csv",
        "grep -a -o -b needle $M/body.txt",
        "rg -n --sort path needle .",
        "rg --files --sort path .",
        "find . -type f -printf '%s %p %TY-%Tm-%Td\\n' | sort",
        "find . -type f -size +100k | sort",
        "find . -name '*.txt' -exec wc -c {} + | sort | sed 's/ total//'",
        "find . -type f -print0 | xargs -0 -n 1 -P 4 sha256sum | sort",
        "find . -empty | sort",
        "stat -c '%s %n %F %Y %U' $M/*",
        "ls -1R . && ls -l --time-style=+%s $M | awk 'NR > 1 { print $5, $6, $7 }'",
        "du -b $M/* | sort",
        "test -s $M/big.bin && test ! -s $M/empty.txt && test -d 2024-03-05T0900_Alice_second.2/forwarded-1 && echo so",
    ]);
}

#[test]
fn programs_that_copy_copy_the_same() {
    same_as_over_files(&[
        "cp $M/big.bin $OUT/x && sha256sum < $OUT/x",
        "cp -r . $OUT/all && diff -r $OUT/all $REF && echo same",
        "cp -a . $OUT/all && diff -r . $OUT/all && find $OUT/all -mindepth 1 -printf '%P %TY-%Tm-%Td\\n' | sort",
        "cp -p $M/odd.bin $OUT && stat -c '%s %Y' $OUT/odd.bin",
        "cp --sparse=always $M/big.bin $OUT/x && sha256sum < $OUT/x",
        "install -m 600 $M/*.bin $OUT && sha256sum $OUT/*",
        "cat $M/big.bin > $OUT/x && stat -c %s $OUT/x",
        "rsync -rc --out-format=%n ./ $OUT/ | sort && rsync -rc --out-format='again %n' ./ $OUT/ && diff -r . $OUT",
        "rsync -a ./ $OUT/ && rsync -a --out-format='again %n' $M $OUT/ && diff -r . $OUT && echo same",
        "diff -r . $REF && echo same",
        "tar cf - . | tar xf - -C $OUT && diff -r . $OUT && echo same",
        "tar cf - --sort=name --owner=0 --group=0 --mode=0600 --mtime=@0 --numeric-owner $M | sha256sum",
        "split -b 100001 $M/big.bin $OUT/part. && cat $OUT/part.* | sha256sum && ls $OUT | wc -l",
        "gio cat $M/long.txt | sha256sum",
        "gio copy $M/big.bin $OUT/x && sha256sum < $OUT/x",
        "python3 -c 'import shutil, sys\n\
             shutil.copytree(\".\", sys.argv[1] + \"/all\")' $OUT && diff -r . $OUT/all && echo same",
        "python3 -c 'import shutil, sys\n\
             shutil.copy2(sys.argv[1], sys.argv[2])' $M/big.bin $OUT && sha256sum < $OUT/big.bin",
        "gzip -c $M/table.csv > $OUT/t.gz && zcat $OUT/t.gz | sha256sum",
    ]);
}

/// The mount is read-only: changes are refused with EROFS.
#[test]
fn what_would_change_the_mail_is_refused_as_on_a_read_only_file_system() {
    let mailbox = mailbox();
    let mount = Mount::new(&mailbox.account, &["--read-only"]);
    for script in [
        "touch $M/big.bin",
        "touch new",
        "mkdir new",
        "mkdir $M/new",
        "rmdir $M",
        "rm -f $M/body.txt",
        "rm -rf $M",
        "echo > new.eml",
        "echo > $M/body.txt",
        "echo >> $M/message.eml",
        "mv $M other",
        "ln $M/body.txt new",
        "ln -s x new",
        "chmod 644 $M/body.txt",
        "truncate -s 0 $M/body.txt",
        "setfattr -n user.imap.flags -v x $M",
        "cp $REF/$M/body.txt new.eml",
        "mkfifo new",
    ] {
        let (status, _, error) = run(script, &mount.join("INBOX"), mailbox.reference.path());
        assert!(status != Some(0) && error.contains("Read-only file system"), "{script}: {status:?} {error}");
    }
    let mut imap = mailbox.account.imap();
    assert_eq!(imap.select("INBOX").unwrap(), 2);
    assert_eq!(run("diff -r . $REF && echo same", &mount.join("INBOX"), mailbox.reference.path()).1, "same\n");
}

/// Sizes are true for programs that map a file, and for many that read it at once at any place.
#[test]
fn four_threads_that_read_and_map_at_random_places_get_the_bytes() {
    let mailbox = mailbox();
    let mount = Mount::new(&mailbox.account, &["--read-only"]);
    let script = r#"
import mmap, os, random, sys, threading
wrong = []
def verify(name, seed):
    rng = random.Random(seed)
    wanted = open(os.path.join(sys.argv[2], name), "rb").read()
    fd = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)
    mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    if os.fstat(fd).st_size != len(wanted) or len(mapped) != len(wanted):
        wrong.append((name, "size"))
    for _ in range(150):
        at, length = rng.randrange(len(wanted) + 10), rng.choice([1, 100, 4096, 5000, 131072, 300000])
        if os.pread(fd, length, at) != wanted[at:at + length]:
            wrong.append((name, at, length))
        if mapped[at:at + length] != wanted[at:at + length]:
            wrong.append((name, at, length, "mapped"))
    os.close(fd)
names = ["big.bin", "odd.bin", "narrow.bin", "quoted.bin", "big.bin", "odd.bin", "old.bin", "bundle.zip"]
threads = [threading.Thread(target=verify, args=(name, seed)) for seed, name in enumerate(names)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(wrong)
"#;
    let output = Command::new("python3")
        .args(["-c", script])
        .args([
            mount.join("INBOX/2024-03-05T0900_Alice_first.1"),
            mailbox.reference.path().join("2024-03-05T0900_Alice_first.1"),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[]\n", "{}", String::from_utf8_lossy(&output.stderr));
    mount.assert_quiet(&[]);
}

/// Extended attributes are copied where programs copy them, and where they cannot be, `cp -a` is silent.
#[test]
fn cp_takes_extended_attributes_along() {
    let mailbox = mailbox();
    let mount = Mount::new(&mailbox.account, &["--read-only"]);
    let script = "cp -a $M $OUT && getfattr --absolute-names -n user.imap.uid --only-values $OUT/$M && \
                  cp --preserve=all $M/body.txt $OUT/ && getfattr --absolute-names -n user.mime_type --only-values $OUT/body.txt";
    let seen = run(script, &mount.join("INBOX"), mailbox.reference.path());
    // Where /tmp takes no attributes there is nothing to be seen, and nothing may be said.
    if has_xattrs(mailbox.reference.path()) {
        assert_eq!(seen, (Some(0), "1text/plain".into(), String::new()));
    }
    let script = "cp -a . $OUT/all && cp -p $M/* $OUT";
    assert_eq!(run(script, &mount.join("INBOX"), mailbox.reference.path()), (Some(0), String::new(), String::new()));
}

fn has_xattrs(directory: &Path) -> bool {
    let file = directory.join("probe");
    fs::write(&file, "").unwrap();
    Command::new("setfattr").args(["-n", "user.probe", "-v", "x"]).arg(&file).output().unwrap().status.success()
}
