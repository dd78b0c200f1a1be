//! Our errors as the numbers that system calls answer.

use fuser::Errno;

use crate::error::Error;

/// The errno of an error. No wildcard: a new kind of error has to choose.
pub(super) fn errno(error: &Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::NoAttribute => Errno::ENODATA,
        Error::Range => Errno::ERANGE,
        Error::Denied(_) | Error::Auth(_) => Errno::EACCES,
        Error::NotPermitted(_) => Errno::EPERM,
        Error::ReadOnly => Errno::EROFS,
        Error::Quota(_) => Errno::EDQUOT,
        Error::DiskFull(_) => Errno::ENOSPC,
        Error::TooBig(_) => Errno::EFBIG,
        Error::Invalid(_) => Errno::EINVAL,
        Error::Stale => Errno::ESTALE,
        Error::Busy(_) => Errno::EBUSY,
        Error::Unsupported(_) => Errno::EOPNOTSUPP,
        Error::Offline(_) => Errno::EHOSTUNREACH,
        Error::TimedOut(_) => Errno::ETIMEDOUT,
        Error::Interrupted => Errno::EINTR,
        Error::Protocol(_) | Error::Local(_) | Error::Uncertain(_) => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_answers_the_number_that_a_user_would_guess() {
        let why = || "why".into();
        let cases = [
            (Error::NotFound, libc::ENOENT),
            (Error::Exists, libc::EEXIST),
            (Error::NotEmpty, libc::ENOTEMPTY),
            (Error::NotDirectory, libc::ENOTDIR),
            (Error::IsDirectory, libc::EISDIR),
            (Error::NoAttribute, libc::ENODATA),
            (Error::Range, libc::ERANGE),
            (Error::Denied(why()), libc::EACCES),
            (Error::NotPermitted(why()), libc::EPERM),
            (Error::ReadOnly, libc::EROFS),
            (Error::Quota(why()), libc::EDQUOT),
            (Error::DiskFull(why()), libc::ENOSPC),
            (Error::TooBig(why()), libc::EFBIG),
            (Error::Invalid(why()), libc::EINVAL),
            (Error::Stale, libc::ESTALE),
            (Error::Busy(why()), libc::EBUSY),
            (Error::Unsupported(why()), libc::EOPNOTSUPP),
            (Error::Offline(why()), libc::EHOSTUNREACH),
            (Error::TimedOut(why()), libc::ETIMEDOUT),
            (Error::Interrupted, libc::EINTR),
            (Error::Auth(why()), libc::EACCES),
            (Error::Protocol(why()), libc::EIO),
            (Error::Local(why()), libc::EIO),
            (Error::Uncertain(why()), libc::EIO),
        ];
        for (error, expected) in cases {
            assert_eq!(errno(&error).code(), expected, "{error:?}");
        }
    }
}
