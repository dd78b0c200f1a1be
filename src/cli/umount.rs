//! `imapfs umount`.

use super::args::Umount;
use super::exit::{Exit, Failure};
use crate::error::Error;
use crate::fuse;

/// Unmounts.
///
/// # Errors
/// Usage when nothing of ours is mounted there; Temporary when it is in use.
pub fn run(umount: &Umount) -> Result<(), Failure> {
    match fuse::unmount(&umount.mountpoint, umount.lazy) {
        Err(Error::Busy(reason)) => {
            let advice = "leave it in all terminals and programs, or add --lazy";
            Err(Failure::new(Exit::Temporary, format!("{reason}: {advice}")))
        }
        outcome => Ok(outcome.map(|_| ())?),
    }
}
