//! How near the mount comes to a bare pipelined IMAP client, over a real server and a link with a round-trip time.
//!
//! `cargo bench --bench mount -- [--json] [--messages N] [--megabytes N] [--rtt MS,MS]`, or `scripts/bench`.

#![allow(missing_docs, clippy::unwrap_used)]

mod bare;
#[path = "../../tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bare::{Bare, Cost};
use common::corpus::{self, build};
use common::proxy::Proxy;
use common::{Account, Mount, Security, Server, wait_for};

/// Messages that walks go through.
const GREP: usize = 200;
/// A step that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(120);

struct Options {
    json: bool,
    messages: usize,
    megabytes: usize,
    rtts: Vec<u64>,
}

/// One line of the table.
struct Row {
    step: &'static str,
    rtt: u64,
    mount: Cost,
    round_trips: u64,
    bare: Option<Cost>,
    note: String,
}

fn main() {
    let options = options();
    let server = Server::start("dovecot", &[("DOVECOT_MAXCONN", "100")]);
    let account = server.account();
    eprintln!("filling {} messages and one of {} MB …", options.messages, options.megabytes);
    fill(&account, &options);
    let mut rows = Vec::new();
    for &rtt in &options.rtts {
        eprintln!("measuring at {rtt} ms round trip …");
        measure(&account, rtt, &options, &mut rows);
    }
    if options.json {
        rows.iter().for_each(|row| println!("{}", json(row)));
    } else {
        table(&rows);
    }
}

fn options() -> Options {
    let mut options = Options { json: false, messages: 2000, megabytes: 50, rtts: vec![0, 50] };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--json" => options.json = true,
            "--messages" => options.messages = value().parse().unwrap(),
            "--megabytes" => options.megabytes = value().parse().unwrap(),
            "--rtt" => options.rtts = value().split(',').map(|rtt| rtt.parse().unwrap()).collect(),
            "--bench" => {}
            _ => panic!("unknown option {arg}"),
        }
    }
    options
}

/// INBOX gets small messages, every tenth with an attachment; `Grep` the first of them; `Big` one with a big part.
fn fill(account: &Account, options: &Options) {
    let mut imap = account.imap();
    imap.create("Grep").unwrap();
    imap.create("Big").unwrap();
    for number in 0..options.messages {
        let name = format!("message-{number}");
        let line = format!("Line of message {number}, as long as lines in messages are, more or less.\r\n");
        let text = build::part("text/plain; charset=utf-8", &[], line.repeat(10 + number % 40));
        let html = build::part("text/html; charset=utf-8", &[], format!("<p>{line}</p>").repeat(10 + number % 40));
        let mut parts = vec![build::inner_multipart("alternative", "alternative", &[text, html])];
        if number % 10 == 0 {
            let data = build::noise(20_000, number as u64);
            parts.push(build::attachment("application/pdf", format!("; filename=\"file-{number}.pdf\""), &data));
        }
        let message = build::multipart(&name, "mixed", &parts);
        imap.append("INBOX", &message, "", None).unwrap();
        if number < GREP {
            imap.append("Grep", &message, "", None).unwrap();
        }
    }
    imap.append("Big", &corpus::big(options.megabytes << 20).bytes, "", None).unwrap();
}

fn measure(account: &Account, rtt: u64, options: &Options, rows: &mut Vec<Row>) {
    let proxy = Proxy::new(account.direct_port()).delay(Duration::from_micros(rtt * 500));
    let bare = |mailbox: &str, command: &str| {
        let mut bare = Bare::select(proxy.port(), &account.user, &account.password, mailbox);
        bare.exchange(&[command.to_owned()])
    };
    let structures = bare("Grep", "UID FETCH 1:* (UID BODYSTRUCTURE)");
    let names = bare("INBOX", "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)");
    let bodies = bare("Grep", "UID FETCH 1:* (UID BODY.PEEK[])");
    let big = bare("Big", "UID FETCH 1 (UID BODY.PEEK[2])");
    let peek = bare("Big", "UID FETCH 1 (UID BODY.PEEK[2]<0.5600>)");
    eprintln!(
        "bare: metadata {names:.1?}, structures {structures:.1?}, {GREP} messages {bodies:.1?}, big part {big:.1?}, peek {peek:.1?}"
    );
    let account = account.through(&proxy).with(Security::None);
    let mut step = |step: &'static str, bare: Option<Cost>, run: &mut dyn FnMut() -> Result<String, String>| {
        proxy.reset();
        let start = Instant::now();
        let note = run().unwrap_or_else(|error| format!("FAILED: {error}"));
        let time = start.elapsed();
        let stats = proxy.stats();
        let mount = Cost { time, bytes: stats.bytes_down };
        rows.push(Row { step, rtt, mount, round_trips: stats.round_trips, bare, note });
    };
    let mut mount = None;
    step("mount", None, &mut || {
        mount = Some(Mount::try_new(&account, &[])?);
        Ok(String::new())
    });
    let Some(mut mount) = mount else { return };
    let inbox = mount.join("INBOX");
    step("ls, first", Some(names), &mut || {
        let count = run("ls", &["-U"], &inbox)?.lines().count();
        expect(count >= options.messages, || format!("{count} entries"))
    });
    step("ls -l, then", None, &mut || run("ls", &["-l"], &inbox).map(|_| String::new()));
    step("ls -l, again", None, &mut || run("ls", &["-l"], &inbox).map(|_| String::new()));
    step("4 KiB peek", Some(peek), &mut || at(&mount, 0));
    step("4 KiB in the middle", Some(peek), &mut || at(&mount, (options.megabytes as u64) << 19));
    let attachment = big_path(&mount);
    step("cat", Some(big), &mut || {
        // The real one: it advises the kernel that it reads a file through.
        let cat = Command::new("cat").arg(attachment.clone()?).stdout(Stdio::null()).status().unwrap();
        let (length, wanted) = (attachment.clone()?.metadata().unwrap().len(), (options.megabytes as u64) << 20);
        let wanted = wanted / 78 * 57;
        expect(cat.success() && length == wanted, || format!("{length} bytes instead of {wanted}"))
    });
    let memory = mount.peak_memory() / 1024;
    step("unmount", None, &mut || {
        let done = mount.unmount();
        expect(done, || "did not end well".to_owned()).map(|_| format!("peak memory {memory} MiB"))
    });
    rows.extend(measure_walks(&proxy, &account, rtt, options, [structures, bodies]));
}

/// What walks through 200 messages costs, each in a mount of its own, which knows nothing but the list of them.
fn measure_walks(proxy: &Proxy, account: &Account, rtt: u64, options: &Options, bare: [Cost; 2]) -> Vec<Row> {
    let [structures, bodies] = bare;
    let mut rows = Vec::new();
    let to = tempfile::tempdir().unwrap();
    let copy = to.path().join("copy");
    let walks: [(&'static str, &str, Vec<&str>, Cost); 5] = [
        ("find -name, 200 messages", "find", vec!["-L", ".", "-name", "*.pdf"], structures),
        ("grep -r body.txt", "grep", vec!["-rc", "--include=body.txt", "as long as lines", "."], bodies),
        ("grep -r", "grep", vec!["-rc", "as long as lines", "."], bodies),
        ("rg -l", "rg", vec!["-l", "as long as lines", "."], bodies),
        ("cp -r", "cp", vec!["-r", ".", copy.to_str().unwrap()], bodies),
    ];
    let messages = GREP.min(options.messages);
    for (step, program, args, bare) in walks {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("{program} is not installed");
            continue;
        }
        let mount = Mount::new(account, &[]);
        let directory = mount.join("Grep");
        let listed = std::fs::read_dir(&directory).unwrap().count();
        assert!(listed >= messages, "{listed}");
        proxy.reset();
        let start = Instant::now();
        let output = Command::new(program).args(&args).current_dir(&directory).stdin(Stdio::null()).output().unwrap();
        let time = start.elapsed();
        let stats = proxy.stats();
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().filter(|line| !line.ends_with(":0")).count();
        let (found, wanted) = match program {
            "cp" => (std::fs::read_dir(&copy).map_or(0, Iterator::count), messages),
            "find" => (found, messages.div_ceil(10)),
            _ => (found, messages),
        };
        let note = if found >= wanted { String::new() } else { format!("FAILED: {found} instead of {wanted}") };
        let mount = Cost { time, bytes: stats.bytes_down };
        rows.push(Row { step, rtt, mount, round_trips: stats.round_trips, bare: Some(bare), note });
    }
    rows
}

fn expect(right: bool, otherwise: impl FnOnce() -> String) -> Result<String, String> {
    if right { Ok(String::new()) } else { Err(otherwise()) }
}

/// Runs a program on a path; its output. It is killed when it takes too long.
fn run(program: &str, args: &[&str], path: &Path) -> Result<String, String> {
    let mut child = Command::new(program).args(args).arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let status = wait_for(LIMIT, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
        return Err(format!("{program} took longer than {} s", LIMIT.as_secs()));
    }
    reader.join().unwrap().map_err(|error| error.to_string())
}

fn big_path(mount: &Mount) -> Result<PathBuf, String> {
    let message = std::fs::read_dir(mount.join("Big")).map_err(|error| error.to_string())?.next();
    let message = message.ok_or("Big is empty")?.map_err(|error| error.to_string())?;
    Ok(message.path().join("big.bin"))
}

/// Reads 4 KiB of the big attachment.
fn at(mount: &Mount, offset: u64) -> Result<String, String> {
    let mut page = [0; 4096];
    let file = File::open(big_path(mount)?).map_err(|error| error.to_string())?;
    file.read_exact_at(&mut page, offset).map_err(|error| error.to_string())?;
    Ok(String::new())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn json(row: &Row) -> serde_json::Value {
    serde_json::json!({
        "step": row.step, "rtt_ms": row.rtt, "ms": ms(row.mount.time), "bytes": row.mount.bytes,
        "round_trips": row.round_trips, "bare_ms": row.bare.map(|bare| ms(bare.time)),
        "bare_bytes": row.bare.map(|bare| bare.bytes), "note": row.note,
    })
}

fn table(rows: &[Row]) {
    println!("| RTT ms | step | ms | bare ms | ratio | bytes | bare bytes | ratio | round trips | |");
    println!("|--:|---|--:|--:|--:|--:|--:|--:|--:|---|");
    for row in rows {
        let (mut times, mut bytes) = (["–".to_owned(), "–".to_owned()], ["–".to_owned(), "–".to_owned()]);
        if let Some(bare) = row.bare {
            times = [format!("{:.1}", ms(bare.time)), format!("{:.2}", ms(row.mount.time) / ms(bare.time))];
            bytes = [bare.bytes.to_string(), format!("{:.2}", row.mount.bytes as f64 / bare.bytes as f64)];
        }
        println!(
            "| {} | {} | {:.1} | {} | {} | {} | {} | {} | {} | {} |",
            row.rtt,
            row.step,
            ms(row.mount.time),
            times[0],
            times[1],
            row.mount.bytes,
            bytes[0],
            bytes[1],
            row.round_trips,
            row.note
        );
    }
}
