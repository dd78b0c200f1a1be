//! The database of an account: its tables, how it is opened or thrown away, and what is asked of it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ffi, params};

use super::directory::{DATABASE, Directory, cannot};
use super::encode::{
    In, Kind, read_mailboxes, read_structure, read_summary, read_synced, seal, unseal, write_mailboxes, write_synced,
};
use super::octets::{Key, Map};
use super::{Account, Details, Kept, Mailboxes, Place, Synced};
use crate::error::{Error, Result};
use crate::mail::uid::Uid;

/// The form of the tables and of what is in them, how entries of a message are numbered among it. What was written in
/// another form is thrown away.
const FORM: i32 = 1;

/// Numbers of mailboxes that may have been given out, of the 65,535 that there are.
const NUMBERS_MAX: usize = 60_000;

/// How long a reader waits for the moment in which a commit is made.
const PATIENCE: Duration = Duration::from_secs(2);

/// All rows of one message or mailbox stand together. Large values have a table of their own, so that the rows beside
/// them can be passed through quickly; with a rowid, since without one each of them takes pages of its own.
const TABLES: &str = "
    CREATE TABLE about(name TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID;
    CREATE TABLE synced(mailbox INTEGER PRIMARY KEY, data BLOB);
    CREATE TABLE message(place INTEGER, uid INTEGER, data BLOB, PRIMARY KEY(place, uid)) WITHOUT ROWID;
    CREATE TABLE structure(place INTEGER, uid INTEGER, data BLOB, PRIMARY KEY(place, uid)) WITHOUT ROWID;
    CREATE TABLE size(place INTEGER, uid INTEGER, entry INTEGER, data BLOB, PRIMARY KEY(place, uid, entry)) WITHOUT ROWID;
    CREATE TABLE object(place INTEGER, uid INTEGER, section TEXT, data BLOB, octets INTEGER, row INTEGER, used INTEGER,
        PRIMARY KEY(place, uid, section)) WITHOUT ROWID;
    CREATE TABLE octets(place INTEGER, uid INTEGER, section TEXT, data BLOB, PRIMARY KEY(place, uid, section));";

/// The tables whose rows belong to a message.
pub const OF_MESSAGES: [&str; 5] = ["message", "structure", "size", "object", "octets"];

/// What SQLite says when there is no room; the second of the file by which readers and the writer know of each other.
const NO_ROOM: [i32; 2] = [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE];

/// What SQLite says, in our words.
pub fn failed(error: &rusqlite::Error) -> Error {
    let text = error.to_string().into();
    if is_no_room(error) { Error::DiskFull(text) } else { Error::Local(text) }
}

fn is_no_room(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| NO_ROOM.contains(&error.extended_code))
}

/// Why a database that is there is not used.
enum Unfit {
    /// It is to be thrown away.
    Bad(String),
    /// There may be nothing wrong with it, but for now it cannot be opened.
    NoRoom(Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        match is_no_room(&error) {
            true => Unfit::NoRoom(failed(&error)),
            false => Unfit::Bad(format!("it cannot be read: {error}")),
        }
    }
}

/// Is the database itself damaged?
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// Opens the database for writing. One that cannot be read, or is of another form or account, is thrown away with all that
/// belongs to it; why, is told.
///
/// # Errors
/// `DiskFull`, and what was kept stays for another time; `Local`.
pub fn open(directory: &Directory, account: &Account) -> Result<(Connection, Mailboxes, Option<String>)> {
    let why = match existing(directory, account) {
        Ok(Some((connection, mailboxes))) => return Ok((connection, mailboxes, None)),
        Ok(None) => None,
        Err(Unfit::Bad(why)) => Some(why),
        Err(Unfit::NoRoom(error)) => return Err(error),
    };
    directory.clear()?;
    let connection = create(directory, account).map_err(|error| {
        // The half of one would be found damaged.
        let _ = directory.clear();
        failed(&error)
    })?;
    Ok((connection, Mailboxes::default(), why))
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// How the writer works: readers go on meanwhile, and a commit costs no wait for the disk. After a power failure the last
/// seconds may be missing, never the order.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=8388608; PRAGMA cache_size=-4096;",
    )
}

/// The database that is there: `None` when there is none.
fn existing(directory: &Directory, account: &Account) -> std::result::Result<Option<(Connection, Mailboxes)>, Unfit> {
    let bad = |why: &str| Err(Unfit::Bad(why.to_owned()));
    let path = directory.path.join(DATABASE);
    if !path.exists() {
        return Ok(None);
    }
    if directory.is_spoilt() {
        return bad("it was found to be damaged");
    }
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let form: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if form != FORM {
        return bad(&format!("it has form {form}, not {FORM}"));
    }
    prepare(&connection)?;
    let of = about(&connection, "account")?;
    if of.as_deref() != Some(account.to_string().as_bytes()) {
        return bad("it is another account's");
    }
    let sealed = about(&connection, "mailboxes")?;
    let mailboxes = match &sealed {
        None => Mailboxes::default(),
        Some(sealed) => {
            let read = unseal(Kind::Mailboxes, Place(0), 0, b"", sealed).and_then(read_mailboxes);
            read.ok_or_else(|| Unfit::Bad("its list of mailboxes is damaged".to_owned()))?
        }
    };
    if mailboxes.ids.len() + mailboxes.spent.len() > NUMBERS_MAX {
        return bad("its numbers for mailboxes are used up");
    }
    Ok(Some((connection, mailboxes)))
}

fn create(directory: &Directory, account: &Account) -> rusqlite::Result<Connection> {
    let path = directory.path.join(DATABASE);
    // What SQLite makes beside it has the same mode.
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(cannot("make", &path, &error))))?;
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Both only take effect before the first table.
    connection.execute_batch("PRAGMA page_size=8192; PRAGMA auto_vacuum=INCREMENTAL;")?;
    prepare(&connection)?;
    connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version={FORM}; COMMIT;"))?;
    connection.execute("INSERT INTO about(name, data) VALUES('account', ?)", [account.to_string().as_bytes()])?;
    Ok(connection)
}

fn about(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT data FROM about WHERE name=?", [name], |row| row.get(0)).optional()
}

/// A connection that only reads.
pub fn reader(directory: &Path) -> rusqlite::Result<Connection> {
    connect(&directory.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Keeps the mailboxes.
pub fn put_mailboxes(connection: &Connection, mailboxes: &Mailboxes) -> rusqlite::Result<()> {
    let sealed = seal(Kind::Mailboxes, Place(0), 0, b"", write_mailboxes(mailboxes));
    connection.execute("INSERT OR REPLACE INTO about(name, data) VALUES('mailboxes', ?)", [sealed]).map(|_| ())
}

/// The mailbox that was looked at last.
pub fn last(connection: &Connection) -> rusqlite::Result<Option<u16>> {
    let last = about(connection, "last")?;
    Ok(last.and_then(|octets| octets.try_into().ok()).map(u16::from_le_bytes))
}

/// Keeps which it is.
pub fn put_last(connection: &Connection, mailbox: u16) -> rusqlite::Result<()> {
    let octets = mailbox.to_le_bytes();
    connection.execute("INSERT OR REPLACE INTO about(name, data) VALUES('last', ?)", [octets]).map(|_| ())
}

/// Keeps up to where a mailbox is known.
pub fn put_synced(connection: &Connection, place: Place, synced: &Synced) -> rusqlite::Result<()> {
    let sealed = seal(Kind::Synced, place.mailbox(), 0, b"", write_synced(place, synced));
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO synced(mailbox, data) VALUES(?, ?)")?;
    statement.execute(params![place.mailbox().sql(), sealed]).map(|_| ())
}

/// All that is kept of a mailbox's messages, and up to where that goes; `None` when its whole was never known.
pub fn load(connection: &Connection, mailbox: u16) -> rusqlite::Result<Option<Kept>> {
    let mailbox = Place(u64::from(mailbox) << 32);
    let mut synced = connection.prepare_cached("SELECT data FROM synced WHERE mailbox=?")?;
    let sealed: Option<Vec<u8>> = synced.query_row([mailbox.sql()], |row| row.get(0)).optional()?;
    let read = sealed.as_deref().and_then(|sealed| unseal(Kind::Synced, mailbox, 0, b"", sealed));
    let Some((place, synced)) = read.and_then(read_synced) else { return Ok(None) };
    let mut messages = Vec::with_capacity(usize::try_from(synced.exists).unwrap_or(0).min(1 << 20));
    let mut statement = connection.prepare_cached("SELECT uid, data FROM message WHERE place=? ORDER BY uid")?;
    let mut rows = statement.query([place.sql()])?;
    while let Some(row) = rows.next()? {
        let Some(uid) = uid(row, 0)? else { continue };
        let Ok(sealed) = row.get_ref(1)?.as_blob() else { continue };
        // One that is damaged is missing, and is asked for: the mailbox is compared with the server.
        let summary = unseal(Kind::Message, place, uid.get(), b"", sealed).and_then(|from| read_summary(uid, from));
        messages.extend(summary);
    }
    Ok(Some(Kept { validity: place.validity(), synced, messages }))
}

fn uid(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Uid>> {
    let uid: i64 = row.get(column)?;
    Ok(u32::try_from(uid).ok().and_then(Uid::new))
}

/// What is kept of how these messages are built.
pub fn details(connection: &Connection, place: Place, uids: &[Uid]) -> rusqlite::Result<HashMap<Uid, Details>> {
    let mut found = HashMap::new();
    let mut structure = connection.prepare_cached("SELECT data FROM structure WHERE place=? AND uid=?")?;
    let mut size = connection.prepare_cached("SELECT entry, data FROM size WHERE place=? AND uid=?")?;
    for &uid in uids {
        let key = [place.sql(), uid.get().into()];
        let sealed: Option<Vec<u8>> = structure.query_row(key, |row| row.get(0)).optional()?;
        let read = sealed.as_deref().and_then(|sealed| unseal(Kind::Structure, place, uid.get(), b"", sealed));
        let Some(root) = read.and_then(read_structure) else { continue };
        let mut details = Details { root, sizes: Vec::new() };
        let mut rows = size.query(key)?;
        while let Some(row) = rows.next()? {
            let entry: u16 = row.get(0)?;
            let Ok(sealed) = row.get_ref(1)?.as_blob() else { continue };
            let octets = unseal(Kind::Size, place, uid.get(), &entry.to_le_bytes(), sealed);
            details.sizes.extend(octets.and_then(|mut from: In<'_>| from.number()).map(|octets| (entry, octets)));
        }
        found.insert(uid, details);
    }
    Ok(found)
}

/// The map of a section, and when it was used last.
pub fn map(connection: &Connection, key: &Key) -> rusqlite::Result<Option<(Map, u32)>> {
    let mut statement =
        connection.prepare_cached("SELECT data, used FROM object WHERE place=? AND uid=? AND section=?")?;
    let row: Option<(Vec<u8>, u32)> = statement
        .query_row(params![key.place.sql(), key.uid.get(), key.section], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(row.and_then(|(sealed, used)| {
        let name = key.section.as_bytes();
        let map = unseal(Kind::Object, key.place, key.uid.get(), name, &sealed).and_then(Map::read)?;
        Some((map, used))
    }))
}

/// The octets of a section that is a row.
pub fn row(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Bytes>> {
    let mut statement = connection.prepare_cached("SELECT data FROM octets WHERE place=? AND uid=? AND section=?")?;
    let octets: Option<Vec<u8>> =
        statement.query_row(params![key.place.sql(), key.uid.get(), key.section], |row| row.get(0)).optional()?;
    Ok(octets.map(Bytes::from))
}

/// Octets of the database that are in use, and of the files beside it when they are to be added up.
pub fn used(connection: &Connection, add_up: bool) -> rusqlite::Result<(u64, Option<u64>)> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    let database = pages.max(0) * pragma("page_size")?;
    let files = |row: &Row<'_>| row.get::<_, i64>(0).map(|octets| octets.max(0) as u64);
    let sql = "SELECT coalesce(sum(octets), 0) FROM object WHERE row=0";
    let files = if add_up { Some(connection.query_row(sql, [], files)?) } else { None };
    Ok((database.max(0) as u64, files))
}

/// How many messages are kept, and of how many the structure.
pub fn counts(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let count = |table: &str| {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(|n| n as u64)
    };
    Ok((count("message")?, count("structure")?))
}

impl Place {
    /// As the database has it.
    pub fn sql(self) -> i64 {
        self.0 as i64
    }

    /// The mailbox, whatever its UIDVALIDITY.
    pub fn mailbox(self) -> Place {
        Place(self.0 >> 32 << 32)
    }
}
