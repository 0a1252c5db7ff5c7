//! How the clients of a run speak: their revision, what they announce, and how strict they are.
//!
//! js5d's table of profiles says what each revision's client sends and accepts. Without `--client`
//! the clients are of build 550, and may announce any build.

use js5d::config::profiles_of_file;
use js5d::protocol::profile::table;
use js5d::protocol::{ClientSession, Profile};
use std::path::Path;

/// The build that is announced without `--client` and `--build`.
pub(crate) const BUILD: u32 = 550;

/// What all clients of a run have in common on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Speech {
    pub(crate) profile: Profile,
    pub(crate) build: u32,
    /// Of a handshake that has room for one.
    pub(crate) token: String,
    /// Whether answers are told apart without the prefetch bit.
    pub(crate) by_group: bool,
    /// Whether a client that allows it accepts a prefetch response that is broken off.
    pub(crate) takes_break_offs: bool,
    /// Whether `--client` is given: a master index in another format is then wrong.
    pub(crate) is_named: bool,
}

impl Speech {
    /// Of the client that `--client` names, of the table or of a server's settings file.
    ///
    /// # Errors
    /// There is none, or the file is wrong, in words.
    pub(crate) fn of(client: Option<&str>, profiles: Option<&Path>) -> Result<Self, String> {
        let profiles = profiles_of_file(profiles)
            .map_err(|failure| format!("--profiles: {}", failure.cause))?;
        let names = table::names(&profiles);
        let named = match client {
            Some(client) => table::client_of(profiles, client).ok_or_else(|| {
                format!("--client {client}: no client has this name or build; there are {names}")
            })?,
            None => (Profile::build_550(), BUILD),
        };
        let (profile, build) = named;
        Ok(Self {
            profile,
            build,
            token: String::new(),
            by_group: false,
            takes_break_offs: true,
            is_named: client.is_some(),
        })
    }

    /// A session that has sent nothing.
    pub(crate) fn session<T: Copy>(&self) -> ClientSession<T> {
        let mut session = ClientSession::of(&self.profile);
        if self.by_group {
            session = session.matching_by_group();
        }
        if !self.takes_break_offs {
            session = session.without_break_offs();
        }
        session
    }

    /// Appends the handshake.
    pub(crate) fn handshake<T: Copy>(&self, session: &mut ClientSession<T>, out: &mut Vec<u8>) {
        session.handshake_with(self.build, self.token.as_bytes(), out);
    }
}
