//! COMPRESS=DEFLATE (RFC 4978) on a connection that has been at work: asked for when nothing is outstanding, and nothing is
//! sent before it was answered.

use super::Machine;
use crate::imap::line::Line;
use crate::imap::refusal::Refusal;
use crate::imap::response::Status;

/// How far it has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Compress {
    #[default]
    Off,
    Wanted,
    /// Sent under this tag.
    Asked(u64),
    /// From the answer on both directions are deflated.
    Agreed,
    Refused,
}

impl Compress {
    /// Is the answer of the server waited for?
    pub(super) fn is_asking(&self) -> bool {
        matches!(self, Compress::Asked(_))
    }
}

impl Machine {
    /// The connection is to be deflated, where the server offers that and it is not yet: when what is in flight has ended.
    pub fn compress(&mut self) {
        if self.dialect.compress && self.compress == Compress::Off {
            self.compress = Compress::Wanted;
        }
    }

    /// The server has agreed, and what follows is deflated: true once.
    pub fn begins_compress(&mut self) -> bool {
        let begins = self.compress == Compress::Agreed;
        if begins {
            (self.compress, self.dialect.compress) = (Compress::Off, false);
        }
        begins
    }

    /// Is nothing to be sent for its sake? Asks as soon as it can.
    pub(super) fn holds_back(&mut self) -> bool {
        match self.compress {
            Compress::Off | Compress::Refused => false,
            Compress::Asked(_) | Compress::Agreed => true,
            Compress::Wanted => {
                self.end_idle();
                if !self.is_busy() && self.pending.is_empty() && !self.is_idling() {
                    self.compress = Compress::Asked(self.queue_line(&Line::new("COMPRESS DEFLATE")));
                    self.write();
                }
                true
            }
        }
    }

    /// A tagged answer: is it that to COMPRESS?
    pub(super) fn compress_answered(&mut self, number: u64, refusal: &Refusal) -> bool {
        if self.compress != Compress::Asked(number) {
            return false;
        }
        self.compress = if refusal.status == Status::Ok { Compress::Agreed } else { Compress::Refused };
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::imap::dialect::Dialect;
    use crate::imap::flight::Job;
    use crate::imap::frame::{Framer, Limits};
    use crate::imap::line::Octets;

    /// What the machine wants sent now.
    fn said(machine: &mut Machine) -> String {
        machine.pump();
        let text = |octets| if let Octets::Text(text) = octets { text } else { panic!("{octets:?}") };
        String::from_utf8(machine.take_output().0.into_iter().flat_map(text).collect()).unwrap()
    }

    fn hear(machine: &mut Machine, line: &str) {
        let mut framer = Framer::new(Limits::default());
        framer.buffer().extend_from_slice(format!("{line}\r\n").as_bytes());
        machine.receive(&framer.next_frame().unwrap().unwrap(), u64::MAX).unwrap();
    }

    /// A machine with one NOOP in flight, of a server that can or cannot compress, that is to be compressed.
    fn machine(compress: bool) -> Machine {
        let dialect = Dialect { compress, ..Dialect::default() };
        let mut machine = Machine::new(dialect, mpsc::unbounded_channel().0, false);
        machine.push(Job::noop());
        assert_eq!(said(&mut machine), "T1 NOOP\r\n");
        machine.compress();
        machine.push(Job::noop());
        machine
    }

    #[test]
    fn it_is_asked_when_nothing_is_in_flight_and_nothing_goes_behind_it() {
        let mut machine = machine(true);
        assert_eq!(said(&mut machine), "");
        hear(&mut machine, "T1 OK done");
        assert_eq!(said(&mut machine), "T2 COMPRESS DEFLATE\r\n");
        assert!(machine.is_busy());
        hear(&mut machine, "* 3 EXISTS");
        assert!(said(&mut machine).is_empty() && !machine.begins_compress());
        hear(&mut machine, "T2 OK from here on");
        assert!(machine.begins_compress() && !machine.begins_compress());
        // Once is enough.
        machine.compress();
        assert_eq!(said(&mut machine), "T3 NOOP\r\n");
        hear(&mut machine, "T3 OK done");
        assert!(said(&mut machine).is_empty() && machine.is_idle());
    }

    #[test]
    fn who_is_refused_goes_on_without() {
        for no in ["NO [COMPRESSIONACTIVE] it is", "BAD what?"] {
            let mut machine = machine(true);
            hear(&mut machine, "T1 OK done");
            assert_eq!(said(&mut machine), "T2 COMPRESS DEFLATE\r\n");
            hear(&mut machine, &format!("T2 {no}"));
            assert!(!machine.begins_compress());
            machine.compress();
            assert_eq!(said(&mut machine), "T3 NOOP\r\n");
        }
    }

    #[test]
    fn a_server_that_cannot_is_not_asked() {
        assert_eq!(said(&mut machine(false)), "T2 NOOP\r\n");
    }
}
