//! Whether the process behind a request still wants the answer.
//!
//! The kernel tells of a killed caller by FUSE_INTERRUPT. fuser 0.18 answers that with ENOSYS before any code of
//! ours sees it, and from then on the kernel waits for every answer in state D, which survives even SIGKILL. So
//! while a request is pending we look at the caller's signals ourselves.

use std::fs;

use super::sys;

/// What somebody sends who wants a process to stop. Other signals (SIGCHLD, SIGALRM, SIGWINCH) do not end a read:
/// programs are not prepared for EINTR from a file.
const STOPPING: u64 = bit(libc::SIGHUP) | bit(libc::SIGINT) | bit(libc::SIGQUIT) | bit(libc::SIGTERM);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// True when the thread `pid` was asked to stop and cannot, because it waits for an answer; or when it is gone and has
/// left behind a read-ahead, whose page others would have to wait for. Never for 0, which is the kernel itself or a
/// caller in another pid namespace.
pub(super) fn gave_up(pid: u32) -> bool {
    // `status` takes no lock of the process's memory, unlike `maps` and `cmdline`: reading it cannot wait for us.
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => is_stopping(&status),
        // /proc may hide other users' processes (hidepid).
        Err(_) => pid != 0 && !sys::thread_exists(pid),
    }
}

/// Judges the text of `/proc/PID/status`.
///
/// A signal whose default action is to terminate shows as SIGKILL, which the kernel makes of it when it is sent.
/// So what is left are dumping ones and those with a handler, which runs once the call has returned.
fn is_stopping(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
    let mask = |name: &str| u64::from_str_radix(field(name).trim(), 16).unwrap_or(0);
    let is_dead = field("State").trim().starts_with(['Z', 'X']);
    let pending = mask("SigPnd") | mask("ShdPnd");
    let deaf = mask("SigBlk") | mask("SigIgn");
    is_dead || pending & bit(libc::SIGKILL) != 0 || pending & STOPPING & !deaf != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(own: u64, shared: u64, blocked: u64, ignored: u64, caught: u64) -> String {
        format!(
            "Name:\tSigPnd: x\nState:\tD (disk sleep)\nUmask:\t0022\nPid:\t7\nSigQ:\t1/31\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t0\n"
        )
    }

    #[test]
    fn a_caller_stops_when_a_stopping_signal_can_reach_it() {
        let (kill, int, alarm) = (bit(libc::SIGKILL), bit(libc::SIGINT), bit(libc::SIGALRM));
        let cases = [
            ("nothing is pending", status(0, 0, 0, 0, 0), false),
            ("killed", status(kill, 0, 0, 0, 0), true),
            ("another thread's kill", status(0, kill, u64::MAX, 0, 0), true),
            ("Ctrl-C with a handler", status(0, int, 0, 0, int), true),
            ("Ctrl-C blocked", status(0, int, int, 0, 0), false),
            ("Ctrl-C ignored", status(0, int, 0, int, 0), false),
            ("a timer", status(0, alarm, 0, 0, alarm), false),
            ("dead, but not yet waited for", "Name:\tcat\nState:\tZ (zombie)\n".to_owned(), true),
            ("no such lines", "Name:\tcat\n".to_owned(), false),
            ("nonsense", "SigPnd:\tzz\nShdPnd\n".to_owned(), false),
        ];
        for (what, text, expected) in cases {
            assert_eq!(is_stopping(&text), expected, "{what}");
        }
    }

    #[test]
    fn this_process_waits_and_one_that_is_gone_does_not() {
        assert!(!gave_up(std::process::id()));
        assert!(!gave_up(0));
        // Beyond the largest pid that Linux gives (2^22).
        assert!(gave_up(1 << 30));
    }
}
