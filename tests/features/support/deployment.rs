//! Caches side by side, and a link to the one that is served: how an operator deploys.

use super::{Cache, Server, eventually};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

/// A directory with caches and a link `current`, and the server that serves what it points to.
pub(crate) struct Deployment {
    pub(crate) dir: TempDir,
    pub(crate) server: Server,
}

impl Deployment {
    /// Writes `caches` under their names, and serves the first of them.
    pub(crate) fn start(caches: &[(&str, &Cache)], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        for (name, cache) in caches {
            cache.write_flat(&dir.path().join(name));
        }
        Self::over(dir, caches[0].0, options)
    }

    /// Serves one of the caches that are in `dir` already.
    pub(crate) fn over(dir: TempDir, first: &str, options: &[&str]) -> Self {
        symlink(first, dir.path().join("current")).expect("a link");
        let link = dir.path().join("current");
        let mut all = vec!["--cache", link.to_str().expect("a plain path"), "--build", "550"];
        all.extend(options);
        let server = Server::start(&all);
        Self { dir, server }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Points the link elsewhere, in one step.
    pub(crate) fn point_to(&self, name: &str) {
        symlink(name, self.path("next")).expect("a link");
        fs::rename(self.path("next"), self.path("current")).expect("a rename");
    }

    /// Asks for a reload and waits until the log has another line with one of these words.
    pub(crate) fn reload_until(&self, words: &str) -> String {
        let count = |log: &str| log.lines().filter(|line| line.contains(words)).count();
        let before = count(&self.server.log());
        self.server.signal(Signal::HUP);
        eventually(words, || count(&self.server.log()) > before);
        let log = self.server.log();
        log.lines().rfind(|line| line.contains(words)).expect("just seen").to_owned()
    }

    /// Serves another cache from here on.
    pub(crate) fn switch_to(&self, name: &str) {
        self.point_to(name);
        self.reload_until("reloaded: ");
    }
}
