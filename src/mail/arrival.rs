//! Which of the messages that arrived in a mailbox are the ones that were sent there: for servers that do not tell, and
//! for answers that were lost.

use super::envelope::Summary;

/// What is known of a message that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Message-ID with its angle brackets; empty when there is none.
    pub message_id: Box<str>,
    /// Decoded Subject.
    pub subject: Box<str>,
    /// Octets; some servers store an appended message with a few more or fewer.
    pub size: u64,
    /// INTERNALDATE; `None` when it was left to the server.
    pub internal_date: Option<i64>,
    /// A copy on the server: its size is that of the original.
    pub exact: bool,
}

impl Sought {
    /// A copy of this message.
    pub fn copy_of(message: &Summary) -> Self {
        let texts = message.texts();
        Self {
            message_id: texts.message_id.into(),
            subject: texts.subject.into(),
            size: message.size,
            internal_date: Some(message.internal_date),
            exact: true,
        }
    }

    /// Is this the same message, maybe on another attempt? One that is given the time of now has another then.
    pub fn is(&self, other: &Sought) -> bool {
        *self == Sought { internal_date: self.internal_date, ..other.clone() }
    }

    /// How well a message answers to it: the more the better, `None` when it is another one.
    fn rank(&self, message: &Summary) -> Option<u32> {
        let has_id = !self.message_id.is_empty();
        let texts = message.texts();
        let same_size = self.size == message.size;
        let same_date = self.internal_date.is_some_and(|date| date == message.internal_date);
        let is_it = match has_id {
            true => &*self.message_id == texts.message_id && (same_size || !self.exact),
            // Without an identity all the rest has to be the same; a date that was not given cannot be compared.
            false => {
                texts.message_id.is_empty()
                    && &*self.subject == texts.subject
                    && same_size
                    && (same_date || self.internal_date.is_none())
            }
        };
        is_it.then(|| 2 * u32::from(same_size) + u32::from(same_date))
    }
}

/// For each message that was sought, the place in `arrived` of the one that it became; each of those is used once,
/// and of equal ones the first.
pub fn plan_matches(sought: &[Sought], arrived: &[Summary]) -> Vec<Option<usize>> {
    let mut used = vec![false; arrived.len()];
    let mut find = |sought: &Sought| {
        let ranked = arrived.iter().enumerate().filter(|(at, _)| !used[*at]);
        let ranked = ranked.filter_map(|(at, message)| Some((sought.rank(message)?, at)));
        let best = ranked.max_by_key(|(rank, at)| (*rank, std::cmp::Reverse(*at)))?.1;
        used[best] = true;
        Some(best)
    };
    sought.iter().map(&mut find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::Envelope;
    use crate::mail::flag::Flags;
    use crate::mail::uid::Uid;

    fn message(id: &str, subject: &str, size: u64, date: i64) -> Summary {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        let envelope = Envelope { message_id: some(id), subject: some(subject), ..Envelope::default() };
        Summary::new(Uid::new(1).unwrap(), date, size, Flags::default(), 0, &envelope)
    }

    #[test]
    fn a_copy_is_known_by_its_identity_and_size_and_each_is_used_once() {
        let copy = |id: &str, size, date| Sought::copy_of(&message(id, "s", size, date));
        for (sought, arrived, want) in [
            (vec![copy("<a>", 5, 1)], vec![message("<b>", "s", 5, 1), message("<a>", "s", 5, 2)], vec![Some(1)]),
            (vec![copy("<a>", 5, 1)], vec![message("<a>", "s", 6, 1)], vec![None]),
            (vec![copy("<a>", 5, 1)], vec![message("<a>", "s", 5, 2), message("<a>", "s", 5, 1)], vec![Some(1)]),
            (vec![copy("<a>", 5, 1), copy("<a>", 5, 1)], vec![message("<a>", "s", 5, 1)], vec![Some(0), None]),
            (vec![copy("", 5, 1)], vec![message("", "s", 5, 1)], vec![Some(0)]),
            (vec![copy("", 5, 1)], vec![message("", "s", 5, 2)], vec![None]),
            (vec![copy("", 5, 1)], vec![message("<a>", "s", 5, 1)], vec![None]),
            (vec![copy("<a>", 5, 1)], vec![], vec![None]),
        ] {
            assert_eq!(plan_matches(&sought, &arrived), want, "{sought:?} {arrived:?}");
        }
    }

    #[test]
    fn an_appended_message_may_have_another_size_than_was_sent() {
        let sought = Sought { message_id: "<a>".into(), size: 5, ..Sought::default() };
        let arrived = [message("<a>", "", 7, 1), message("<a>", "", 5, 1)];
        assert_eq!(plan_matches(&[sought.clone(), sought], &arrived), [Some(1), Some(0)]);
    }
}
