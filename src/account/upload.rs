//! New messages: APPEND, several at once by MULTIAPPEND, and REPLACE of an old message by a new one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, info, warn};

use super::Account;
use super::index::Index;
use super::intent::{ANSWER_MAX, Place};
use super::transfer::{deleted, is_unclear, is_unknown_command};
use crate::error::{Error, Result};
use crate::imap::request::Upload;
use crate::imap::response::Code;
use crate::imap::{Class, Command, Done, Target};
use crate::mail::arrival::{Sought, plan_matches};
use crate::mail::draft::{self, LineEnds};
use crate::mail::envelope::Summary;
use crate::mail::flag::Flags;
use crate::mail::uid::{Uid, UidSet, UidValidity};
use crate::tree::node::MailboxId;

/// Octets that are read from a file at once.
const PIECE: usize = 256 * 1024;

/// A message that is to be appended, and by what it will be found again.
#[derive(Clone, Debug)]
pub struct Draft {
    upload: Upload,
    sought: Sought,
}

/// Makes a file with a message fit for the server: lines ended by CRLF, without an mbox line in front. Where it has to
/// be written anew, into the file that `scratch` makes; memory does not grow with it. Blocks: call it on a thread
/// for that.
///
/// # Errors
/// `Invalid` for what is no message; `DiskFull`, `Local` for what else a disk does.
pub fn prepare_upload(
    raw: Arc<File>,
    octets: u64,
    flags: Flags,
    internal_date: Option<i64>,
    scratch: impl FnOnce() -> io::Result<File>,
) -> Result<Upload> {
    let head = read_head(&raw, octets).map_err(|error| of_disk(&error))?;
    let start = draft::plan_start(&head).map_err(Error::invalid)? as u64;
    let (_, stated) = draft::sought(&head[start as usize..], 0, None);
    let internal_date = draft::plan_internal_date(internal_date, stated);
    let mut ends = LineEnds::default();
    pass(&raw, start..octets, &mut ends, |_| Ok(()))?;
    let (file, octets) = if start == 0 && ends.bare == 0 {
        (raw, octets)
    } else {
        let mut file = scratch().map_err(|error| of_disk(&error))?;
        pass(&raw, start..octets, &mut LineEnds::default(), |piece| file.write_all(piece))?;
        (Arc::new(file), octets - start + ends.bare)
    };
    Ok(Upload { file, octets, flags, internal_date })
}

/// Reads a file once, with its line ends as they are to be.
fn pass(
    raw: &File,
    range: std::ops::Range<u64>,
    ends: &mut LineEnds,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<()> {
    let (mut piece, mut out) = (vec![0; PIECE], Vec::new());
    let mut at = range.start;
    while at < range.end {
        let most = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
        let got = match raw.read_at(&mut piece[..most], at) {
            Ok(0) => return Err(Error::Local("a file ends before its end".into())),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(of_disk(&error)),
        };
        out.clear();
        ends.push(&piece[..got], &mut out).map_err(Error::invalid)?;
        write(&out).map_err(|error| of_disk(&error))?;
        at += got as u64;
    }
    Ok(())
}

fn read_head(file: &File, octets: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; usize::try_from(octets).unwrap_or(draft::HEAD).min(draft::HEAD)];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

fn of_disk(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(error.to_string().into()),
        _ => Error::Local(error.to_string().into()),
    }
}

impl Account {
    /// Puts a new message into a mailbox, see [`prepare_upload`]. Its UID.
    ///
    /// # Errors
    /// `TooBig` before it is sent, where the server tells its APPENDLIMIT; `Quota`, `Denied`, `NotFound`, `Invalid` as
    /// the server refuses it. `Uncertain` when the connection was lost and it is not seen there: who sends the same again
    /// has it looked for first.
    pub async fn append(self: &Arc<Self>, to: MailboxId, message: Upload) -> Result<Uid> {
        self.check_writable()?;
        let draft = self.draft(message).await?;
        let account = Arc::clone(self);
        let work = move |drafts| {
            let account = Arc::clone(&account);
            async move { account.append_all(to, drafts).await }
        };
        self.changing.appends.join(to, draft, work).await
    }

    async fn draft(&self, upload: Upload) -> Result<Draft> {
        let limit = self.client.server().capabilities.iter().find_map(|c| c.strip_prefix("APPENDLIMIT=")?.parse().ok());
        if limit.is_some_and(|limit: u64| upload.octets > limit) {
            return Err(Error::TooBig(
                format!("{} octets: the server takes no message that large", upload.octets).into(),
            ));
        }
        let (file, octets, date) = (Arc::clone(&upload.file), upload.octets, upload.internal_date);
        let read = move || read_head(&file, octets).map(|head| draft::sought(&head, octets, date).0);
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| Error::Local(error.to_string().into()))?;
        Ok(Draft { upload, sought: read.map_err(|error| of_disk(&error))? })
    }

    /// Several go together where the server has MULTIAPPEND; when it refuses that, each goes alone and has its own
    /// outcome.
    async fn append_all(self: &Arc<Self>, to: MailboxId, drafts: Vec<Draft>) -> Vec<Result<Uid>> {
        let target = match self.index(to) {
            Ok(target) => target,
            Err(error) => return vec![Err(error); drafts.len()],
        };
        // Those that may be there already go alone.
        let is_doubted = drafts.iter().any(|draft| self.changing.doubts.has(to, &draft.sought));
        if drafts.len() > 1 && self.offers("MULTIAPPEND") && !is_doubted {
            match self.append_set(&target, &drafts).await {
                Ok(outcomes) => return outcomes,
                Err(error) if error.is_connection_lost() || is_unclear(&error) => {
                    return vec![Err(error); drafts.len()];
                }
                Err(error) => debug!(%error, "several messages were refused: each goes alone"),
            }
        }
        let mut outcomes = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            outcomes.push(self.append_one(&target, draft).await);
        }
        outcomes
    }

    async fn append_set(self: &Arc<Self>, target: &Index, drafts: &[Draft]) -> Result<Vec<Result<Uid>>> {
        let next = target.next(&self.client).await?;
        let messages = drafts.iter().map(|draft| draft.upload.clone()).collect();
        let command = Command::Append { to: target.name.get(), messages };
        let answer = self.client.run(Target::Account, command, Class::Bulk, ANSWER_MAX).await;
        self.uploaded(target, next, drafts, answer.map(|(_, done)| done)).await
    }

    /// What became of messages that were sent: by APPENDUID (RFC 4315), else they are looked for.
    async fn uploaded(
        self: &Arc<Self>,
        target: &Index,
        next: u32,
        drafts: &[Draft],
        answer: Result<Done>,
    ) -> Result<Vec<Result<Uid>>> {
        let lost = match answer {
            Ok(done) => match told(&done, drafts.len()) {
                Some((validity, uids)) => {
                    let set = uids.iter().copied().collect();
                    self.take_in(target, Some(validity), &set, None, drafts).await;
                    return Ok(uids.into_iter().map(Ok).collect());
                }
                None => Error::Uncertain("the server took the message, and it is not seen".into()),
            },
            Err(error) if is_unclear(&error) => error,
            Err(error) => return Err(error),
        };
        let arrived = match target.arrived_since(&self.client, next).await {
            Ok(arrived) => arrived,
            Err(error) => {
                let sought = drafts.iter().map(|draft| draft.sought.clone());
                return Err(self.doubt(target, sought, next, &error));
            }
        };
        let sought: Vec<Sought> = drafts.iter().map(|draft| draft.sought.clone()).collect();
        let places = plan_matches(&sought, &arrived);
        // A server that lost the connection may be about to put there what is not seen yet.
        let missing = sought.into_iter().zip(&places).filter_map(|(sought, at)| at.is_none().then_some(sought));
        let missing: Vec<Sought> = missing.collect();
        let lost = if missing.is_empty() { lost } else { self.doubt(target, missing, next, &lost) };
        let outcomes: Vec<Result<Uid>> =
            places.iter().map(|at| at.map(|at| arrived[at].uid).ok_or_else(|| lost.clone())).collect();
        let set = outcomes.iter().flatten().copied().collect();
        self.take_in(target, None, &set, Some(arrived), drafts).await;
        if outcomes.iter().all(|outcome| outcome.is_err()) { Err(lost) } else { Ok(outcomes) }
    }

    /// New messages are there: they are listed at once, with the size that the server states. Flags that it forgot are
    /// set again, where it keeps them.
    async fn take_in(
        self: &Arc<Self>,
        target: &Index,
        validity: Option<UidValidity>,
        uids: &UidSet,
        known: Option<Vec<Summary>>,
        drafts: &[Draft],
    ) {
        let messages = match known {
            Some(arrived) => Ok(arrived),
            None => target.fetch_summaries(&self.client, uids).await,
        };
        let Ok(messages) = messages else { return target.expire() };
        let missing = |(message, draft): (&Summary, &Draft)| {
            let missing = draft.upload.flags.without(&message.flags);
            (!missing.is_empty()).then_some((message.uid, missing))
        };
        let forgotten: Vec<_> = if messages.len() == drafts.len() {
            messages.iter().zip(drafts).filter_map(missing).collect()
        } else {
            Vec::new()
        };
        target.came(validity, messages);
        for (uid, flags) in forgotten {
            if let Some(Err(error)) = self.store(target.id, vec![uid], &flags, &Flags::default()).await.pop() {
                warn!(%uid, %error, "a new message has not the flags that it was given");
            }
        }
    }

    /// Puts a new message into the place of an old one, with the old one's flags besides its own. Its UID.
    ///
    /// Where the server has no REPLACE (RFC 8508) the new one is appended first. When the old one cannot be removed
    /// then, the new one goes again and the error is told; when the connection is lost just there, the new one is the
    /// outcome, and the old one stays beside it.
    ///
    /// # Errors
    /// The old message stands after any of them. `Unsupported`, before anything is done, where the server could not
    /// remove it.
    pub async fn replace(self: &Arc<Self>, at: Place, mut message: Upload) -> Result<Uid> {
        self.check_writable()?;
        let at = self.settle_message(at).await;
        let old = self.summary(at.0, at.1).await?;
        message.flags = message.flags.with(&old.flags).without(&deleted());
        let draft = self.draft(message).await?;
        let index = self.index(at.0)?;
        let is_doubted = self.changing.doubts.has(at.0, &draft.sought);
        if self.offers("REPLACE") && !is_doubted && !self.changing.no_replace.load(Ordering::Relaxed) {
            match self.replace_by_replace(&index, at.1, &draft).await {
                Err(error) if is_unknown_command(&error) => {
                    info!(%error, "the server offers REPLACE and does not know it");
                    self.changing.no_replace.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        self.check_can_expunge()?;
        self.check_flags(&index, &deleted()).await?;
        let new = self.append_one(&index, &draft).await?;
        self.remove_replaced(&index, at.1, new).await
    }

    async fn append_one(self: &Arc<Self>, index: &Index, draft: &Draft) -> Result<Uid> {
        let before = self.arrived_before(index, std::slice::from_ref(&draft.sought)).await?;
        if let Some(message) = before.into_iter().flatten().next() {
            let uid = message.uid;
            let set = UidSet::range(uid.get(), uid.get());
            self.take_in(index, None, &set, Some(vec![message]), std::slice::from_ref(draft)).await;
            return Ok(uid);
        }
        let mut outcomes = self.append_set(index, std::slice::from_ref(draft)).await?;
        outcomes.pop().unwrap_or(Err(Error::NotFound))
    }

    async fn replace_by_replace(self: &Arc<Self>, index: &Index, uid: Uid, draft: &Draft) -> Result<Uid> {
        let next = index.next(&self.client).await?;
        let command = Command::Replace { uid, message: draft.upload.clone() };
        let answer = self.client.run(index.target(), command, Class::Bulk, ANSWER_MAX).await;
        let answer = self.settle(index, answer).map(|(_, done)| done);
        let was_lost = answer.is_err();
        let mut outcomes = self.uploaded(index, next, std::slice::from_ref(draft), answer).await?;
        let new = outcomes.pop().unwrap_or(Err(Error::NotFound))?;
        if was_lost && self.offers("UIDPLUS") {
            // The new one is there: on a server that does one after the other the old one may be as well.
            return self.remove_replaced(index, uid, new).await;
        }
        index.left(UidSet::range(uid.get(), uid.get()));
        Ok(new)
    }

    /// The new message is there: the old one goes.
    async fn remove_replaced(self: &Arc<Self>, index: &Index, old: Uid, new: Uid) -> Result<Uid> {
        let one = |uid: Uid| UidSet::range(uid.get(), uid.get());
        match self.expunge(index, &one(old)).await {
            Ok(()) => Ok(new),
            Err(error) if error.is_connection_lost() || is_unclear(&error) => {
                warn!(%old, %new, %error, "a message was replaced, and the old one is still there as well");
                Ok(new)
            }
            Err(error) => match self.expunge(index, &one(new)).await {
                Ok(()) => Err(error),
                Err(undo) => {
                    warn!(%old, %new, %error, %undo, "a message was replaced, and the old one cannot be removed");
                    Ok(new)
                }
            },
        }
    }
}

/// The UIDs of new messages in their order, from APPENDUID.
fn told(done: &Done, count: usize) -> Option<(UidValidity, Vec<Uid>)> {
    match &done.code {
        Some(Code::AppendUid(validity, uids)) if uids.len() == count as u64 => Some((*validity, uids.iter().collect())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(text: &[u8]) -> Result<(Vec<u8>, Upload, bool)> {
        let mut raw = tempfile::tempfile().unwrap();
        raw.write_all(text).unwrap();
        let mut made = false;
        let scratch = || {
            made = true;
            tempfile::tempfile()
        };
        let upload = prepare_upload(Arc::new(raw), text.len() as u64, Flags::default(), None, scratch)?;
        let mut all = vec![0; upload.octets as usize];
        upload.file.read_exact_at(&mut all, 0).unwrap();
        Ok((all, upload, made))
    }

    #[test]
    fn a_file_is_written_anew_only_when_it_has_to_be() {
        for (raw, want, is_new) in [
            (&b"A: b\r\n\r\nc\r\n"[..], &b"A: b\r\n\r\nc\r\n"[..], false),
            (b"A: b\n\nc", b"A: b\r\n\r\nc", true),
            (b"From x y\r\nA: b\r\n\r\n", b"A: b\r\n\r\n", true),
        ] {
            let (all, upload, made) = prepare(raw).unwrap();
            assert_eq!((&*all, upload.octets, made), (want, want.len() as u64, is_new));
        }
        let large: Vec<u8> = b"A: b\n\n".iter().copied().chain(b"line\n".repeat(200_000)).collect();
        let (all, ..) = prepare(&large).unwrap();
        assert_eq!(all.len(), large.len() + 200_002);
        assert!(all.ends_with(b"line\r\nline\r\n"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for raw in [&b""[..], b"hello world", b"A: b\r\n\r\n\0", b"\xff\xd8\xff"] {
            assert!(matches!(prepare(raw), Err(Error::Invalid(_))), "{raw:?}");
        }
    }

    #[test]
    fn the_date_is_that_of_the_message_when_none_is_given() {
        let (_, upload, _) = prepare(b"Date: 1 Jan 1970 00:00:07 +0000\r\n\r\n").unwrap();
        assert_eq!(upload.internal_date, Some(7));
        assert_eq!(prepare(b"A: b\r\n\r\n").unwrap().1.internal_date, None);
    }
}
