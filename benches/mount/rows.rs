//! The rows of the table: what each does, on which sides, and what it should reach.

use crate::jobs;
use crate::run::{Run, Side};
use crate::search;
use crate::stage::Stage;

/// What should be reached at the most.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    Seconds(f64),
    /// So many times what it takes there.
    Times(Side, f64),
    /// Megabytes from the server.
    Down(f64),
    /// So many times the bytes that come there.
    Bytes(Side, f64),
    /// Round trips, each.
    Trips(f64),
    /// Megabytes of memory, afterwards and at the peak.
    Resident(f64),
    Peak(f64),
}

pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub goals: &'static [Goal],
    /// Only when it is named.
    pub is_optional: bool,
    pub run: fn(&mut Stage<'_>) -> Result<Run, String>,
}

/// In parentheses: what is not counted.
pub const ROWS: &[Row] = &[
    Row {
        name: "mount",
        what: "mount, first ls",
        goals: &[Goal::Seconds(0.6), Goal::Down(0.2)],
        is_optional: false,
        run: jobs::mount,
    },
    Row {
        name: "mount-plain",
        what: "the same without COMPRESS",
        goals: &[Goal::Seconds(0.6), Goal::Down(1.1)],
        is_optional: false,
        run: jobs::mount_plain,
    },
    Row {
        name: "ls-again",
        what: "ls -l again, 2,000",
        goals: &[Goal::Times(Side::Disk, 2.0)],
        is_optional: false,
        run: jobs::ls_again,
    },
    Row {
        name: "ls-100000",
        what: "ls -l again, 100,000",
        goals: &[Goal::Times(Side::Disk, 2.0), Goal::Resident(64.0)],
        is_optional: false,
        run: jobs::ls_100000,
    },
    Row {
        name: "rg",
        what: "mount, rg -l needle",
        goals: &[Goal::Times(Side::Sync, 0.3), Goal::Down(3.0)],
        is_optional: false,
        run: jobs::rg,
    },
    Row {
        name: "grep",
        what: "mount, grep -r needle",
        goals: &[Goal::Times(Side::Sync, 1.0), Goal::Bytes(Side::Bare, 1.0)],
        is_optional: false,
        run: jobs::grep,
    },
    Row {
        name: "grep-warm",
        what: "(mount, grep,) grep -r again",
        goals: &[Goal::Times(Side::Disk, 2.0)],
        is_optional: false,
        run: jobs::grep_warm,
    },
    Row {
        name: "find",
        what: "(mount, ls,) find -name '*.pdf'",
        goals: &[Goal::Times(Side::Bare, 1.3)],
        is_optional: false,
        run: jobs::find,
    },
    Row {
        name: "cp",
        what: "(mount, ls,) cp -r of 200",
        goals: &[Goal::Times(Side::Bare, 1.3)],
        is_optional: false,
        run: jobs::cp,
    },
    Row {
        name: "cat",
        what: "(mount, ls,) cat 50 MB",
        goals: &[Goal::Times(Side::Bare, 1.3), Goal::Peak(96.0)],
        is_optional: false,
        run: jobs::cat,
    },
    Row {
        name: "random",
        what: "100 random 4 KiB reads in it",
        goals: &[Goal::Trips(1.2)],
        is_optional: false,
        run: jobs::random,
    },
    Row {
        name: "beside",
        what: "small read beside it, 10 Mbit/s",
        goals: &[Goal::Seconds(0.2)],
        is_optional: false,
        run: jobs::beside,
    },
    Row {
        name: "search",
        what: "(mount, ls,) ls .search/needle",
        goals: &[Goal::Trips(1.0)],
        is_optional: false,
        run: search::listing,
    },
    Row {
        name: "imapfs-grep",
        what: "mount, imapfs grep needle",
        goals: &[Goal::Times(Side::Sync, 0.3)],
        is_optional: false,
        run: search::grep,
    },
    Row {
        name: "ls-1000000",
        what: "ls of 1,000,000 (1 run is enough)",
        goals: &[Goal::Resident(256.0)],
        is_optional: true,
        run: jobs::ls_1000000,
    },
];
