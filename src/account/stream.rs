//! A long range of a section in one answer, whose pieces are handed out while the rest is still on its way: servers
//! answer one long range faster than many short ones.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::fetch::ANSWER_SLACK;
use super::object::{Locator, Object};
use crate::imap::{Answer, Answers, Client, Command, FetchItem};
use crate::mail::uid::UidSet;

/// What comes for a piece: its octets, or nothing when the stream ended before, and it is to be asked for alone.
pub type Awaited = oneshot::Receiver<Bytes>;

/// Asks for adjoining ranges at once, before it returns. A piece is handed out when the answer has gone on behind it; the
/// last one when the answer has ended as it should.
pub fn fetch(client: &Client, object: &Object, ranges: &[Range<u64>]) -> Vec<Awaited> {
    let [first, .., last] = ranges else { return Vec::new() };
    let Ok(octets) = u32::try_from(last.end - first.start) else { return Vec::new() };
    let uids = UidSet::range(object.locator.uid.get(), object.locator.uid.get());
    // The size comes first: it tells the message from one that the server makes up.
    let items = vec![FetchItem::Size, FetchItem::Body(object.section.clone(), Some((first.start, octets)))];
    let command = Command::Fetch { uids, items, changed_since: None };
    let answers = client.stream(object.locator.target(), command, u64::from(octets) + ANSWER_SLACK);
    let (senders, awaited): (Vec<_>, Vec<_>) = ranges.iter().map(|_| oneshot::channel()).unzip();
    let lengths = ranges.iter().map(|range| usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
    let hopper = Hopper::new(lengths.zip(senders).collect());
    tokio::spawn(pour(answers, object.locator.clone(), hopper));
    awaited
}

/// Takes the answer in. Whatever is odd about it ends the stream, and what was not handed out is asked for again.
async fn pour(mut answers: Answers, locator: Locator, mut hopper: Hopper<oneshot::Sender<Bytes>>) {
    let mut stated = None;
    while let Some(answer) = answers.recv().await {
        let octets = match answer {
            Answer::Part(size, octets) => {
                stated = size.or(stated);
                octets
            }
            Answer::Data(row) => {
                let Some(mut row) = locator.pick(row) else { continue };
                stated = row.size.or(stated);
                // What another row tells of the message is not the end of this one.
                let Some(body) = row.bodies.pop() else { continue };
                let Some(rest) = body.data.filter(|rest| rest.len() == hopper.missing()) else { return };
                rest
            }
            Answer::Done(_) => return,
        };
        if stated != Some(locator.size) {
            return;
        }
        for (sender, octets) in hopper.pour(octets) {
            // Nobody waits for a piece of a file that was closed.
            let _ = sender.send(octets);
        }
    }
}

/// Octets in as they come, pieces of known lengths out.
struct Hopper<T> {
    /// The lengths that are still to be filled, and who gets what.
    wanted: VecDeque<(usize, T)>,
    /// Invariant: shorter than the first of them.
    have: BytesMut,
}

impl<T> Hopper<T> {
    fn new(wanted: VecDeque<(usize, T)>) -> Self {
        Self { wanted, have: BytesMut::new() }
    }

    /// Octets that all of them still need.
    fn missing(&self) -> usize {
        self.wanted.iter().map(|(length, _)| length).sum::<usize>() - self.have.len()
    }

    /// The pieces that these octets fill. What is cut as they are is not copied.
    fn pour(&mut self, mut octets: Bytes) -> Vec<(T, Bytes)> {
        let mut filled = Vec::new();
        while let Some((length, to)) = self.wanted.pop_front_if(|(length, _)| self.have.len() + octets.len() >= *length)
        {
            let some = octets.split_to(length - self.have.len());
            let piece = if self.have.is_empty() {
                some
            } else {
                self.have.extend_from_slice(&some);
                std::mem::take(&mut self.have).freeze()
            };
            filled.push((to, piece));
        }
        self.have.extend_from_slice(&octets);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_filled_in_order_however_the_octets_come(lengths in prop::collection::vec(1..50usize, 1..20), cuts in prop::collection::vec(0..80usize, 0..40)) {
            let total: usize = lengths.iter().sum();
            let all: Bytes = (0..total).map(|n| n as u8).collect::<Vec<u8>>().into();
            let mut hopper = Hopper::new(lengths.iter().copied().zip(0..).collect());
            let (mut at, mut out) = (0, Vec::new());
            for cut in cuts.into_iter().chain([total]) {
                let end = (at + cut).min(total);
                let before = out.len();
                out.extend(hopper.pour(all.slice(at..end)));
                at = end;
                // Each is handed out as soon as it is full.
                let full = lengths.iter().scan(0, |sum, length| { *sum += length; Some(*sum) }).filter(|sum| *sum <= at).count();
                prop_assert!(out.len() == full && before <= full);
                prop_assert_eq!(hopper.missing(), total - at);
            }
            prop_assert!(out.iter().map(|(n, _)| *n).eq(0..lengths.len()));
            prop_assert!(out.iter().map(|(_, piece)| piece.len()).eq(lengths.iter().copied()));
            prop_assert_eq!(out.into_iter().flat_map(|(_, piece)| piece).collect::<Bytes>(), all);
        }
    }
}
