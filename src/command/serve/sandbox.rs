//! What the server gives up before it serves: everything but the caches it may be told to load.

use super::sockets::Listening;
use crate::admin::Bound;
use crate::cli::{SandboxArg, ServeArgs};
use crate::failure::{Exit, Failure};
use crate::platform::sandbox::{Entered, Needs, enter};
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Where the resolver asks over TCP if an answer is long.
const DNS_PORT: u16 = 53;

/// The sandbox as it was entered.
pub(super) struct Sandbox {
    /// For the status page.
    pub(super) note: String,
    /// Where caches can be read still; none if that is everywhere.
    pub(super) readable: Option<String>,
}

/// Enters the sandbox, as far as it is wanted. To be called before any thread is started.
pub(super) fn begin(args: &ServeArgs, listening: &Listening) -> Result<Sandbox, Failure> {
    if args.restart.sandbox == SandboxArg::Off {
        return Ok(Sandbox { note: "off".into(), readable: None });
    }
    let mut caches = args.cache.as_deref().map_or_else(Vec::new, cache_places);
    // A reload reads the master index again.
    caches.extend(args.clients.master_index.as_deref().into_iter().flat_map(cache_places));
    let own = ["/proc/self".into(), "/proc/stat".into()];
    let connect = Connect::of(args);
    let needs = Needs {
        // For metrics: the process itself, and when the system was started.
        read: caches.iter().chain(&own).chain(&connect.read).cloned().collect(),
        remove_sockets_from: socket_places(listening),
        connect: connect.ports,
        abstract_sockets: env::var("NOTIFY_SOCKET").is_ok_and(|path| path.starts_with('@')),
    };
    let entered = match (enter(&needs), args.restart.sandbox) {
        (Ok(Entered::Partly { what }), SandboxArg::Require) => {
            let cause =
                format!("the kernel's Landlock, {what}, supports only a part of the sandbox");
            let remedy = "run Linux 6.12 or later, or use --sandbox best-effort";
            return Err(Failure::new(Exit::System, cause, remedy));
        }
        (Err(missing), SandboxArg::Require) => {
            return Err(Failure::new(Exit::System, &missing, missing.remedy()));
        }
        (Ok(Entered::Whole), _) => "Landlock and no_new_privs".to_owned(),
        (Ok(Entered::Partly { what }), _) => format!("Landlock {what}, and no_new_privs"),
        (Err(missing), _) => {
            warn!("no sandbox: {missing}; {}", missing.remedy());
            return Ok(Sandbox { note: format!("none: {missing}"), readable: None });
        }
    };
    let note = format!("{entered}: {}", needs.describe());
    info!("sandbox: {note}");
    let names: Vec<_> = caches.iter().map(|path| path.display().to_string()).collect();
    Ok(Sandbox { note, readable: Some(names.join(", ")) })
}

/// What it takes to reach the game server.
#[derive(Default)]
struct Connect {
    ports: Vec<u16>,
    read: Vec<PathBuf>,
}

impl Connect {
    fn of(args: &ServeArgs) -> Self {
        let Some(name) = &args.game.game_server else { return Self::default() };
        let port = name.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let is_address = name.parse::<SocketAddr>().is_ok();
        // A name is looked up again when the server has moved, by the C library's resolver.
        let resolver: &[&str] =
            if is_address { &[] } else { &["/etc", "/run", "/usr/lib", "/lib"] };
        let ports = port.into_iter().chain((!is_address).then_some(DNS_PORT)).collect();
        Self { ports, read: resolver.iter().map(PathBuf::from).collect() }
    }
}

/// Where the cache, or one that takes its place, may be: its parent, the parent of what it is a
/// link to, and the parents of what is linked to in it.
fn cache_places(cache: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(cache).unwrap_or_else(|_| cache.to_owned());
    let mut places: Vec<PathBuf> = Vec::new();
    let mut add = |path: &Path| {
        let parent = path.parent().unwrap_or(path);
        if !places.iter().any(|place| parent.starts_with(place)) {
            places.push(parent.to_owned());
        }
    };
    add(&absolute);
    if let Ok(target) = fs::canonicalize(&absolute) {
        add(&target);
        let entries = fs::read_dir(&target).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::canonicalize(entry.path()).ok()).for_each(|path| add(&path));
    }
    places
}

/// Where the sockets are that this process made in the file system, and removes.
fn socket_places(listening: &Listening) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for bound in listening.admin.iter().chain(&listening.handover) {
        let Bound::Unix(_, file) = bound else { continue };
        if let Some(directory) = file.directory()
            && !places.iter().any(|place| place == directory)
        {
            places.push(directory.to_owned());
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_cache_is_read_beside_itself_and_where_its_links_lead() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let root = fs::canonicalize(dir.path()).expect("it is there");
        for name in ["links", "caches/one", "elsewhere/files"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        fs::write(root.join("elsewhere/files/dat2"), "").expect("a file");
        let link = |from: &str, to: &str| symlink(root.join(from), root.join(to)).expect("a link");
        link("elsewhere/files/dat2", "caches/one/main_file_cache.dat2");
        link("caches/one", "links/current");
        let places = cache_places(&root.join("links/current"));
        let expected = ["links", "caches", "elsewhere/files"].map(|name| root.join(name));
        assert_eq!(places, expected);
    }
}
