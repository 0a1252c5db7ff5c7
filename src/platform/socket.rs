//! Socket details that no safe wrapper offers.
#![allow(unsafe_code, reason = "getsockopt and setsockopt on options that no crate wraps")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// How many bytes the peer has acknowledged since the connection began: the only sight of
/// progress while a large send is under way.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn acknowledged_bytes(socket: impl AsFd) -> io::Result<u64> {
    Ok(tcp_info(socket)?.tcpi_bytes_acked)
}

/// Whether the peer has acknowledged everything that was sent, the end of the stream included.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn is_delivered(socket: impl AsFd) -> io::Result<bool> {
    let info = tcp_info(socket)?;
    Ok(info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0)
}

/// How what was sent arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// Bytes that the peer has acknowledged since the connection began.
    pub acknowledged_bytes: u64,
    /// Bytes that were given to the kernel since the connection began.
    pub written_bytes: u64,
    /// Bytes that have not gone onto the line.
    pub unsent_bytes: u32,
    /// The shortest time that anything took to the peer and back.
    pub round_trip_min: Duration,
}

/// How what was sent arrives, by one question to the kernel.
///
/// # Errors
/// Not a TCP socket, or one that is gone.
pub fn delivery(socket: impl AsFd) -> io::Result<Delivery> {
    let info = tcp_info(socket)?;
    let sent_once = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans);
    Ok(Delivery {
        written_bytes: sent_once.saturating_add(info.tcpi_notsent_bytes.into()),
        acknowledged_bytes: info.tcpi_bytes_acked,
        unsent_bytes: info.tcpi_notsent_bytes,
        round_trip_min: Duration::from_micros(info.tcpi_min_rtt.into()),
    })
}

fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` and `len` are valid for writes, and `len` says how much `info` can take.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a valid `tcp_info`; the kernel wrote plain integers.
    Ok(unsafe { info.assume_init() })
}

/// Bounds what the kernel holds of this socket's output that has not gone onto the line yet
/// (`TCP_NOTSENT_LOWAT`). A listener's bound holds for what it accepts.
///
/// # Errors
/// Not a TCP socket.
pub fn bound_unsent(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value)
}

/// Bounds the output of this socket that the peer has not acknowledged, roughly: the kernel doubles
/// `SO_SNDBUF`, counts its own overhead, and says that there is room below two thirds. None lets it
/// choose again. A listener's bound holds for what it accepts.
///
/// # Errors
/// No socket.
pub fn bound_unacknowledged(socket: impl AsFd, bytes: Option<NonZeroU32>) -> io::Result<()> {
    let Some(bytes) = bytes else {
        let chooses = set_option(&socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0);
        // Before Linux 5.14 it cannot be told to choose again: what it may hold at most then.
        return chooses.or_else(|_| bound_unacknowledged(socket, UNACKNOWLEDGED_ANY));
    };
    let value = libc::c_int::try_from(bytes.get()).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, value)
}

/// Which buffer sizes are set by hand, since Linux 5.14.
const SO_BUF_LOCK: libc::c_int = 72;

/// More than `net.core.wmem_max` usually allows.
const UNACKNOWLEDGED_ANY: Option<NonZeroU32> = NonZeroU32::new(8 << 20);

fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option's value is a C int of the stated length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_has_room_for_about_as_many_unacknowledged_bytes_as_its_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // It reads nothing, and acknowledges only what its own buffer holds.
        let reader = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let reader = reader.expect("a socket");
        reader.set_recv_buffer_size(2048).expect("small");
        reader.connect(&listener.local_addr().expect("bound").into()).expect("connected");
        let (socket, _): (TcpStream, _) = listener.accept().expect("accepted");
        socket.set_nonblocking(true).expect("set");
        let bound: u32 = 64 << 10;
        bound_unacknowledged(&socket, NonZeroU32::new(bound)).expect("set");
        let has_room = || {
            let mut asked = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT)];
            rustix::event::poll(&mut asked, Some(&rustix::event::Timespec::default()))
                .expect("asked")
        };
        while has_room() > 0 {
            rustix::net::send(&socket, &[0; 1448], rustix::net::SendFlags::DONTWAIT)
                .expect("taken");
        }
        let delivery = delivery(&socket).expect("asked");
        let unacknowledged = delivery.written_bytes - delivery.acknowledged_bytes;
        let share = unacknowledged as f64 / f64::from(bound);
        assert!((0.7..2.0).contains(&share), "{unacknowledged} bytes, {share:.2} of the bound");
    }
}
