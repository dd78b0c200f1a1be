//! Where log lines go: standard error, a file, or the system's log.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::Global;
use super::exit::{Exit, Failure};

/// The socket of syslog, and of the journal, which listens there too.
const SYSLOG: &str = "/dev/log";
/// Facility "daemon" of syslog, RFC 5424 section 6.2.1, shifted to its place.
const FACILITY: u8 = 3 << 3;

/// Starts logging. In the background standard error is nobody's, and so the log goes to the system.
///
/// # Errors
/// Usage for a filter that makes no sense; System when the file cannot be written.
pub fn start(global: &Global, background: bool) -> Result<(), Failure> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(global)?).with_ansi(false);
    // A second start in one process (tests) keeps the first log.
    let _ = match &global.log_file {
        Some(path) => filtered(builder.with_writer(Arc::new(open(path)?)).finish()).try_init(),
        None if background => {
            match UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG).map(|()| socket)) {
                // The system's log knows the time and the level.
                Ok(socket) => {
                    let builder = builder.without_time().with_level(false).with_writer(Syslog(Arc::new(socket)));
                    filtered(builder.finish()).try_init()
                }
                Err(_) => Ok(()),
            }
        }
        None => filtered(builder.with_writer(io::stderr).finish()).try_init(),
    };
    if background {
        // The default hook writes to standard error, which is /dev/null by then.
        std::panic::set_hook(Box::new(|panic| tracing::error!("defect of imapfs: {panic}")));
    }
    Ok(())
}

/// Silences async-imap whatever the filters say: at `trace` it logs each command, LOGIN and AUTHENTICATE with them.
/// And [`Unawaited`] answers.
fn filtered(log: impl Subscriber + Send + Sync + for<'a> LookupSpan<'a>) -> Dispatch {
    log.with(filter_fn(|metadata| !metadata.target().starts_with("async_imap"))).with(Unawaited).into()
}

/// Silences fuser where it answers a request that the kernel has ended already: one of a connection that was aborted,
/// or an interrupt that came after its answer. The kernel says ENOENT to both (libfuse's `fuse_send_msg` passes it over
/// too); nobody waits for the answer, and nothing went wrong.
struct Unawaited;

impl<S: Subscriber> Layer<S> for Unawaited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut is_unawaited = IsUnawaited(false);
        // Few are errors, and only those are put into words twice.
        if *event.metadata().level() == Level::ERROR {
            event.record(&mut is_unawaited);
        }
        !is_unawaited.0
    }
}

/// Whether an event is fuser's line that an answer met ENOENT.
struct IsUnawaited(bool);

impl Visit for IsUnawaited {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let line = || format!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(libc::ENOENT));
        self.0 |= field.name() == "message" && format!("{value:?}") == line();
    }
}

/// `IMAPFS_LOG`, else `RUST_LOG`, else by `-v`.
fn filter(global: &Global) -> Result<EnvFilter, Failure> {
    for name in ["IMAPFS_LOG", "RUST_LOG"] {
        if let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) {
            return EnvFilter::try_new(text).map_err(|error| Failure::usage(format!("{name}: {error}")));
        }
    }
    // Other crates log at `debug` what is not fit for a log file (TLS, polling); they stay at `warn`.
    let level = match global.verbose {
        _ if global.debug_imap => "debug",
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    Ok(EnvFilter::new(format!("warn,imapfs={level}")))
}

/// Opens a log file to append; 0600 whatever it was: names and subjects of mail are in it.
fn open(path: &Path) -> Result<File, Failure> {
    let failed = |error| Failure::new(Exit::System, format!("cannot write the log file {}: {error}", path.display()));
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(file)
}

/// One datagram per line, `<PRIORITY>imapfs[PID]: TEXT`, RFC 3164 section 4.1 as local sockets speak it.
struct Syslog(Arc<UnixDatagram>);

/// A line on its way to the system's log.
struct Line {
    socket: Arc<UnixDatagram>,
    severity: u8,
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { socket: self.0.clone(), severity: 6 }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let severity = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        Line { socket: self.0.clone(), severity }
    }
}

impl Write for Line {
    /// A whole line, as tracing writes it. A log that does not listen must not stop the mount.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut line = format!("<{}>imapfs[{}]: ", FACILITY | self.severity, std::process::id()).into_bytes();
        line.extend_from_slice(text.trim_ascii_end());
        let _ = self.socket.send(&line);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_makes_the_crate_that_logs_passwords_talk() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let builder = tracing_subscriber::fmt().with_env_filter("trace,async_imap::imap_stream=trace");
        let log = filtered(builder.with_writer(Arc::new(open(&path).unwrap())).finish());
        tracing::dispatcher::with_default(&log, || {
            tracing::trace!(target: "async_imap::imap_stream", "LOGIN me hunter2");
            tracing::trace!(target: "imapfs::imap", "heard");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("heard") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn only_an_answer_that_nobody_waits_for_is_passed_over() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let log = filtered(tracing_subscriber::fmt().with_writer(Arc::new(open(&path).unwrap())).finish());
        tracing::dispatcher::with_default(&log, || {
            for errno in [libc::ENOENT, libc::EINVAL] {
                tracing::error!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(errno));
            }
            tracing::info!("open: {}", io::Error::from_raw_os_error(libc::ENOENT));
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let kept = ["Failed to send FUSE reply: Invalid argument", "open: No such file"];
        assert!(text.lines().count() == 2 && kept.iter().all(|line| text.contains(line)), "{text}");
    }

    #[test]
    fn a_log_file_is_for_its_owner_alone_and_is_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&path).unwrap().write_all(b"after\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn a_line_for_the_system_log_has_priority_program_and_process() {
        let (near, far) = UnixDatagram::pair().unwrap();
        let mut line = Line { socket: Arc::new(near), severity: 4 };
        line.write_all(b"something is odd\n").unwrap();
        let mut buffer = [0; 200];
        let length = far.recv(&mut buffer).unwrap();
        let expected = format!("<28>imapfs[{}]: something is odd", std::process::id());
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
}
