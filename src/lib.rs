//! imapfs mounts an IMAP account as a Linux file system: mailboxes are directories, each message is a directory of
//! its decoded MIME parts, and bytes are fetched when they are read, in the ranges that are read.
//!
//! This page is the architecture document. What a user sees is in README.md.
//!
//! # The house
//! ```text
//!            ls, grep, cp …                                            imapfs mount …
//!                 │ system calls                                             │
//!               kernel                                                     main
//!                 │ FUSE requests       ▲ invalidations        cli ──────────┴────────── config
//!   fuse/      adapter ─ request        notify                 flags, subcommands        accounts, secrets
//!                 │                       ▲                          └─────────┬────────────┘
//!   fs/        one verb a file ───────  changes                              mount    starts, connects and stops the parts
//!                 │ ids, never names      ▲
//!   account/   the one door: mailboxes, index, message, content, reading, search, info
//!                 │ Request ▼   Answer ▲      Event ▲          │ what is to be kept ▼   what was kept ▲
//!   imap/      pool ── session (a task owns a connection) ── transport ── the server
//!   store/     the disk cache: shelf ── writer (a thread owns the database) ── SQLite and sparse files
//!
//!   tree/      what the user sees: nodes, inode numbers, names (pure)
//!   mail/      what mail is: UIDs, flags, the mailbox state machine, part trees, decoding, text, ranges, queries (pure)
//!   error      the one Error, in file-system words
//! ```
//! Floors, imports run downwards only: main > cli, config > mount > fuse > fs > account > (store | imap | tree) > mail >
//! error. `tree`, `imap` and `store` never meet. What needs neither await nor clock is in `mail` or `tree`.
//!
//! # How the parts meet
//! * *Kernel and async.* A callback takes its arguments out, spawns on the runtime and replies from the task. No
//!   callback waits. Each request has a deadline; a caller that was killed is let go.
//! * *Account and server.* [`imap::Client`] is a cloneable handle around a channel of typed [`imap::Request`]s. The
//!   channel is the seam: a model server sits at its far end in tests.
//! * *Decision and IO apart.* What to ask (`mail::mailbox::Mailbox::plan_sync`), which octets a read needs
//!   (`mail::layout::Layout::plan`), how far to read ahead (`mail::range::Sequential`), which messages a walker will
//!   want next (`mail::walk::Walks`) are pure; thin code carries it out.
//! * *What nobody may want.* The kernel reads ahead by itself. A read that is only its guess, of one who looks at the
//!   beginning of a large file, is held back until he goes on or closes it (`account::reads`).
//! * *A slow line.* Bodies shrink by a quarter when they are deflated, and servers deflate slower than a fast line carries:
//!   their connections ask for COMPRESS when one of them has seen that the line is slow (`imap::pace`).
//! * *One path for changes.* Whatever is heard of a mailbox is an `Event` into `mail::mailbox::Mailbox::apply`, and
//!   comes out as `Change`s: new mtimes, and invalidations to the kernel.
//! * *Listings.* To open a directory asks the server, and tells what is wrong; to read one asks nobody and holds nothing
//!   (`fs::readdir`, `tree::offset`). The kernel keeps the listing of a message, which never changes. Without OPENDIR
//!   (FUSE_NO_OPENDIR_SUPPORT) a walk makes two requests less for each message; but then errors come from readdir(3), which
//!   many programs take for an empty directory, and some ask for ever.
//! * *In step.* One connection watches while nobody needs it: IDLE in the mailbox that is listed most, NOTIFY for the
//!   others (`imap::machine`). News makes a mailbox doubtful, and one that was listed lately is looked into by itself
//!   (`account::watch`): by SELECT with the MODSEQ that is known (QRESYNC), else CHANGEDSINCE and a list of UIDs, else by
//!   comparison. Nothing relies on being told: what is looked at is asked for again after the poll interval.
//! * *A connection begins.* What is asked after login goes out at once (`imap::setup`). On the first one LIST is in it, and
//!   answers whoever asks that first; reads over further ones, to servers that keep the order, wait for none of it.
//! * *Which connection.* What SELECT told holds for its connection: another one may not have heard of it, answers as if
//!   it was not so, and says so to nobody. What it made worth asking is asked there ([`imap::Client::on`]), or all over.
//! * *One flight.* Who asks what is being asked already waits for that answer (`account::flight`); a piece of a body
//!   on its way is known by each of its blocks (`account::content`). A caller that goes away stops nothing.
//!   A long range of a body is one command, whose octets are handed on as they come (`account::stream`); what did not
//!   come is asked for alone. What comes in a batch ahead of a walker (`account::batch`) is waited for
//!   (`account::walk`), and kept under the checks of a single answer; what does not come or does not fit is asked for
//!   alone.
//! * *What outlives the mount.* What an index learns, how messages are built, exact sizes and octets are told to
//!   `store` as they are learnt, and looked up before the server is asked (`account::kept`). A mailbox that an earlier
//!   mount knew is shown as it was; the first look waits for the server for a moment, and what it says later comes as
//!   any change does. Without a server (`--offline`) the client answers that it is unreachable, and all else is the same.
//!
//! # Who owns what
//! | what | owner | bound |
//! |---|---|---|
//! | a connection | its session task | `--connections` |
//! | answers on their way to who asked | the channel of their request | some thousands: a connection waits a little for who takes them slower than they come |
//! | summaries of messages | `account::index`, one piece of memory each | 4 million a mailbox |
//! | MIME trees | `account::Account::messages` | 8 MiB, least recently used go |
//! | what is watched, and how much each mailbox is listed | `account::watch` | one a mailbox |
//! | what is kept on disk | `store`'s thread: `$XDG_CACHE_HOME/imapfs/accounts/USER@HOST:PORT`, locked | `--cache-size`; octets least recently used go |
//! | what waits to be written there | `store` | 8 MiB of octets, a million rows |
//! | open files of octets | `store` | 64 |
//! | the connection that reads the database, and who waits for it | `store::reader`, one thread at a time | each who asks, once |
//! | encoded octets | `account::content`, blocks of 8 KiB | 32 MiB; of what is read through the oldest go, else the least recently used |
//! | what is read ahead in open files | `account::reading` | 16 MiB in all, 2 for each at the least; 4 until the line is known, 1 over a slow one |
//! | sections that the server gives only whole | `account::content` | 32 MiB, and the newest whatever it has |
//! | converted texts and headers | `account::reading` | 16 MiB |
//! | offsets of encoded bodies | `account::reading` | 1024 parts |
//! | what searches found, and what is kept of structures for them | `account::search` | 8 MiB, 16 MiB |
//! | numbers of searches, and the messages of the newest | `fs::search` | 4096, 64 |
//! | who walks a mailbox, and what is ahead of him | `mail::walk`, in the mailbox's index | 12 walkers a mailbox, about 8 MiB ahead of each, 1 over a slow line |
//! | open files | `fs`, by handle | the kernel's |
//! | names and inode numbers that were given in this mount (a moved message's old ones) | `fs::alias` | one a move, while the mount lives |
//! | parts that were removed, or are still to be created, in a message | `fs::remove`, `fs::copying` | 5 s, 60 s after the last |
//! | inode numbers | nobody: `tree::node` computes them; only searches and files that exist here alone are counted | |
//!
//! What can never change has no lifetime: envelope, size, date, tree, octets. What can, is asked for again after the
//! poll interval: the list of mailboxes, the UIDs of a mailbox, its flags.
//!
//! # Locks
//! Standard library locks, one at a time, never across an await (`clippy::await_holding_lock` is denied). With that
//! rule no order of locks is needed. Those inside of caches and of the store are innermost: nothing else is called under one.
//!
//! # Invariants
//! * Invariant: a size that the kernel may keep is the number of octets that a reader gets. What servers state of parts is a
//!   hint; the octets at the end of a part settle it, and an inexact size has a lifetime of zero. Where lines in the middle of
//!   base64 show that the ends misled, whoever reads it by then gets an error, and from then on the size is right.
//! * Invariant: a read gives all octets that were asked for up to the end of the file, or an error.
//! * Invariant: octets are kept only under the UIDVALIDITY, UID, section and offset that the answer itself named.
//! * Invariant: nothing is believed from disk without its checksum, which covers UIDVALIDITY, mailbox, UID and section or
//!   block. The mark up to where a mailbox is known is never on disk before the rows that it is about.
//! * Invariant: an id that a mailbox once had is given to no other one as long as the cache lives and has room.
//! * Invariant: nothing waits for the cache to be written, and nothing but `--offline` needs it.
//! * Invariant: sections inside attached messages are never asked for: servers disagree on what they mean. The attached
//!   message is fetched whole and taken apart here.
//! * Invariant: a mailbox is known up to the HIGHESTMODSEQ of the SELECT whose questions have all been answered, not of
//!   any that was heard of since; what is told of a message that is expunged meanwhile is not believed.
//! * Invariant: a UIDNEXT that fell voids a mailbox as a new UIDVALIDITY does, and so does a UID that is another message
//!   than it was; a HIGHESTMODSEQ that fell makes all of it be compared. Servers that come back from a backup do so.
//! * Invariant: no command uses a message sequence number, and none names a range that begins at or past the known end.
//! * Invariant: search keys are made in `imap::search` alone, of a parsed query; raw ones stand in parentheses that they cannot
//!   leave. A search that the server answers too widely is judged again here, never believed.
//! * Invariant: naming a search asks the server nothing; opening it does.
//! * Invariant: only PEEK forms of FETCH exist in `imap::command`; reading cannot mark.
//! * Invariant: a command that changes something is sent when nothing else is outstanding on its connection, and nothing
//!   is sent behind it until it has been answered. It is sent twice only when it cannot have been carried out, or when
//!   twice is as good as once; otherwise a lost connection is `Error::Uncertain`. No bare EXPUNGE and no CLOSE exist.
//! * Invariant: a name depends on nothing that can change, and a message is found from the UID in its name alone.
//! * Deliberately absent: MULTISEARCH (no server in wide use has it), SEARCH=FUZZY (a search means the same everywhere),
//!   a table of inodes, lookup counts, snapshots of directories, a name cache, UTF8=ACCEPT and IMAP4rev2 (names have one wire form),
//!   BINARY (its sizes are wrong on servers in wide use), changes without a server (they are refused), a cache that two
//!   mounts share.
//!
//! # Words
//! mailbox, message, part, section, flag and keyword, UID, UIDVALIDITY, UID set: as in RFC 9051. *Entry*: something with
//! a name in a directory. *Handle*: an open file or directory. *Event*: from the server. *Change*: of what we know.
//! *Invalidation*: to the kernel. *Piece*: adjoining blocks that one FETCH brings. *Flight*: a question under way.

pub mod account;
pub mod cli;
pub mod config;
pub mod error;
pub mod fs;
pub mod fuse;
pub mod imap;
pub mod mail;
pub mod mount;
pub mod store;
pub mod tree;
