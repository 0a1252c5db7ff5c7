//! Descriptors that come from elsewhere: inherited at start, or passed over a unix socket.
#![allow(unsafe_code, reason = "an inherited descriptor is a number until somebody owns it")]

use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The first number that is no standard stream.
const FIRST: RawFd = 3;

/// Bytes of a record that [`pass`] sends.
pub const RECORD_LEN: usize = 16;

/// Takes inherited descriptors into possession. To be called once, before the process opens
/// anything: a number that is given twice, a standard stream, or one that is not open is
/// refused.
///
/// # Errors
/// Which one, and why not.
pub fn take_inherited(numbers: &[RawFd]) -> Result<Vec<OwnedFd>, (RawFd, io::Error)> {
    for (place, &number) in numbers.iter().enumerate() {
        if number < FIRST {
            let error = io::Error::new(ErrorKind::InvalidInput, "it is a standard stream");
            return Err((number, error));
        }
        if numbers[..place].contains(&number) {
            let error = io::Error::new(ErrorKind::InvalidInput, "it is given twice");
            return Err((number, error));
        }
        // SAFETY: the call only looks at the number, and borrows it no longer than that.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|errno| match errno {
            Errno::BADF => (number, io::Error::new(ErrorKind::NotFound, "nothing was inherited")),
            errno => (number, errno.into()),
        })?;
    }
    // SAFETY: each is open, is no standard stream and comes once; the process has opened nothing
    // by itself yet, so nothing else owns them.
    let own = |&number: &RawFd| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(numbers.iter().map(own).collect())
}

/// Sends a record, with a descriptor if there is one to pass.
///
/// # Errors
/// The other end is gone, or does not take it in time.
pub fn pass(
    socket: impl AsFd,
    record: &[u8; RECORD_LEN],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    let bytes = [IoSlice::new(record)];
    let sent = retry_on_intr(|| sendmsg(&socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL))?;
    if sent == RECORD_LEN { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Receives a record, and the descriptor sent with it. `UnexpectedEof` if the other end has
/// closed.
///
/// # Errors
/// The other end is gone, sends something else, or nothing in time.
pub fn receive(socket: impl AsFd) -> io::Result<([u8; RECORD_LEN], Option<OwnedFd>)> {
    let mut record = [0; RECORD_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // A record is written at once and shorter than any buffer, so it arrives as a whole.
    let into = &mut [IoSliceMut::new(&mut record)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, into, &mut ancillary, flags))?;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptor = rights.last();
        }
    }
    match received.bytes {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        RECORD_LEN if !received.flags.contains(ReturnFlags::CTRUNC) => Ok((record, descriptor)),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_record() {
        let (mine, other) = UnixStream::pair().expect("sockets");
        let mut file = tempfile::tempfile().expect("a file");
        pass(&mine, b"a record of 16 b", Some(file.as_fd())).expect("sent");
        pass(&mine, b"and one without.", None).expect("sent");
        drop(mine);
        let (record, descriptor) = receive(&other).expect("it was sent");
        assert_eq!(&record, b"a record of 16 b");
        let mut passed = fs::File::from(descriptor.expect("it came along"));
        passed.write_all(b"the same file").expect("written");
        let mut text = String::new();
        file.rewind().expect("a file");
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "the same file");
        let (record, descriptor) = receive(&other).expect("it was sent");
        assert_eq!((&record, descriptor.is_none()), (b"and one without.", true));
        let end = receive(&other).expect_err("the other end is closed");
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_inherited_descriptor_is_refused() {
        for (numbers, named) in [(&[0][..], 0), (&[-1], -1), (&[9999], 9999)] {
            let (number, _) = take_inherited(numbers).expect_err("none was inherited");
            assert_eq!(number, named);
        }
    }
}
