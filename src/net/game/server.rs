//! Where the game server is: looked up at the start, and again after it could not be reached.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tracing::{debug, info};

/// The game server by name, and the addresses that the name stands for.
#[derive(Clone, Debug)]
pub struct GameServer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    /// Never empty. Touched when a connection is made.
    addresses: Mutex<Vec<SocketAddr>>,
    /// Whether a thread is looking the name up.
    is_looking: AtomicBool,
}

impl GameServer {
    /// Looks up `HOST:PORT`. Blocks.
    ///
    /// # Errors
    /// The resolver does not know the name.
    pub fn resolve(name: &str) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            name: name.to_owned(),
            addresses: Mutex::new(look_up(name)?),
            is_looking: AtomicBool::new(false),
        })))
    }

    /// As it was named.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its addresses, to be tried in this order.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks the name up again, in a thread of its own because that blocks; one at a time. Later
    /// connections use the addresses found.
    pub(super) fn look_up_again(&self) {
        let is_address = self.0.name.parse::<SocketAddr>().is_ok();
        if is_address || self.0.is_looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(&self.0);
        let looking = thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            shared.look_up();
            shared.is_looking.store(false, Ordering::Relaxed);
        });
        if let Err(error) = looking {
            debug!(%error, "the game server cannot be looked up again");
            self.0.is_looking.store(false, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn look_up(&self) {
        match look_up(&self.name) {
            Ok(found) => {
                let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
                if *addresses != found {
                    info!(name = self.name, addresses = ?found, "the game server has moved");
                    *addresses = found;
                }
            }
            Err(error) => debug!(name = self.name, %error, "the game server is not found"),
        }
    }
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = name.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}
