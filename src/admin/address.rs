//! Where the admin address listens: a TCP port, or a socket in the file system.

use rustix::fs::Mode;
use socket2::{Socket, Type};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a unix socket's name begins with.
const UNIX: &str = "unix:";

/// The longest path of a unix socket: `sun_path` of `sockaddr_un`, less its end.
const PATH_LEN_MAX: usize = 107;

/// An admin address, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path.len() {
                0 => Err("a path is wanted behind 'unix:'".into()),
                1..=PATH_LEN_MAX => Ok(Self::Unix(path.into())),
                _ => Err(format!("a socket's path has {PATH_LEN_MAX} bytes at most")),
            };
        }
        let wanted = "an address with its port is wanted, as 127.0.0.1:9550, or unix:/path";
        text.parse().map(Self::Tcp).map_err(|_| wanted.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A listening socket, not yet served.
#[derive(Debug)]
pub enum Bound {
    /// On a port.
    Tcp(TcpListener),
    /// In the file system. The file goes when this is dropped.
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Where it listens, with the port that the system chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, file) => Some(Address::Unix(file.path.clone())),
        }
    }

    /// A socket that was bound elsewhere. Its file is left alone until it is
    /// [claimed](SocketFile::claim), and for good if it is `kept` there.
    ///
    /// # Errors
    /// It is no listening socket of TCP or the file system.
    pub fn adopt(socket: OwnedFd, kept: bool) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let address = socket.local_addr()?;
        let is_stream = socket.r#type()? == Type::STREAM && socket.is_listener()?;
        match (is_stream, address.is_ipv4() || address.is_ipv6(), address.as_pathname()) {
            (true, true, _) => {
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(socket.into()))
            }
            (true, false, Some(path)) => {
                socket.set_nonblocking(true)?;
                let inode = fs::symlink_metadata(path).ok().map(|found| found.ino());
                let inode = inode.filter(|_| !kept);
                let file = SocketFile { path: path.to_owned(), inode, is_mine: false };
                Ok(Self::Unix(socket.into(), file))
            }
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "no listening stream socket")),
        }
    }

    /// The socket once more, to be passed on.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }
}

/// A socket's file, removed when this is dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// None if another process keeps it.
    inode: Option<u64>,
    is_mine: bool,
}

impl SocketFile {
    /// The directory it is in.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.path
            .parent()
            .map(|parent| if parent.as_os_str().is_empty() { ".".as_ref() } else { parent })
    }

    /// Takes it over from the process that had it: until then it is that one's to remove.
    pub fn claim(&mut self) {
        self.is_mine = true;
    }

    /// Leaves it to another process.
    pub fn leave(mut self) {
        self.is_mine = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let (true, Some(mine)) = (self.is_mine, self.inode) else { return };
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == mine) {
            // It may be gone, or its directory no longer ours; nothing depends on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why an admin address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--admin {address}: {source}")]
pub struct BindError {
    /// What was asked for.
    pub address: Address,
    /// What the system said.
    pub source: io::Error,
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match (self.source.kind(), &self.address) {
            (ErrorKind::AddrInUse, Address::Tcp(_)) => {
                "another process listens there ('ss -ltnp' names it): stop it, or use another port"
            }
            (ErrorKind::AddrInUse, Address::Unix(_)) => {
                "another process listens there ('ss -lxp' names it): stop it, or use another path"
            }
            (ErrorKind::AlreadyExists, _) => "this path is not a socket: use another path",
            (ErrorKind::PermissionDenied, Address::Tcp(_)) => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port"
            }
            (ErrorKind::PermissionDenied, Address::Unix(_)) => {
                "let the server's user write to the socket's directory"
            }
            (ErrorKind::NotFound, _) => "make the socket's directory first",
            (ErrorKind::AddrNotAvailable, _) => "no interface has this address ('ip addr')",
            _ => "check the address given with --admin",
        }
    }
}

/// Listens on `address`.
///
/// # Errors
/// It is taken, not ours, or not permitted.
pub fn bind(address: &Address) -> Result<Bound, BindError> {
    let bound = match address {
        Address::Tcp(address) => TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Bound::Tcp(listener))
        }),
        Address::Unix(path) => bind_unix(path),
    };
    bound.map_err(|source| BindError { address: address.clone(), source })
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path)?;
    // The mode must hold from the first moment. Nothing else makes files at this time.
    let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    let inode = Some(fs::symlink_metadata(path)?.ino());
    Ok(Bound::Unix(listener, SocketFile { path: path.to_owned(), inode, is_mine: true }))
}

/// Removes the socket of a process that was killed: a socket on which no process answers.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "Address already in use")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:9550", "[::1]:0", "unix:/run/js5d/admin.sock"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(PATH_LEN_MAX));
        for text in ["", "localhost:9550", "127.0.0.1", "unix:", &long] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_that_is_used_is_left_alone_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("admin.sock");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("a socket whose process is gone"));
        let bound = bind(&address).expect("stale");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind(&address).expect_err("it is used");
        assert!(error.remedy().contains("another process"), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "and still is");
        drop(bound);
        assert!(!path.exists(), "it goes with the server");
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("admin.sock");
        fs::write(&path, "precious").expect("a file");
        let error = bind(&Address::Unix(path.clone())).expect_err("it is no socket");
        assert!(error.remedy().contains("another path"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
    }

    #[test]
    fn a_file_that_another_process_has_put_there_stays() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("admin.sock");
        let mine = bind(&Address::Unix(path.clone())).expect("free");
        fs::rename(&path, dir.path().join("old")).expect("moved");
        let _other = UnixListener::bind(&path).expect("free again");
        drop(mine);
        assert!(path.exists());
    }
}
