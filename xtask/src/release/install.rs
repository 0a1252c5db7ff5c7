//! Each artefact of this machine's architecture as its user meets it: put into a fresh root, it
//! serves a cache of which every byte is compared, answers, and ends in good order.

use super::{Release, Result, TARGETS, Target, do_it, said, said_as_it_is};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testkit::Serving;

/// How long a start and an end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Programs and a cache to try them with.
struct Bench {
    dir: PathBuf,
    cache: PathBuf,
    programs: PathBuf,
    /// A Debian with nothing but what every Debian has, as an archive.
    debian: PathBuf,
}

/// A directory that is a root, with /proc in it until it is dropped.
struct Root(PathBuf);

pub(super) fn check(release: &Release) -> Result<()> {
    let is_ours = |target: &&Target| target.triple.starts_with(std::env::consts::ARCH);
    let target = TARGETS.iter().find(is_ours).ok_or("no target is this machine's")?;
    let bench = Bench::new(release, target)?;
    let mut sums = Command::new("sha256sum");
    do_it(sums.current_dir(&release.dist).args(["--check", "--strict", "--quiet", "SHA256SUMS"]))?;
    println!("ok    checksums");
    bench.archive(release, target)?;
    bench.package(release, target)?;
    bench.image(release, target)
}

impl Bench {
    fn new(release: &Release, target: &Target) -> Result<Self> {
        let dir = release.work.join("check");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let programs = release.work.join("build").join(target.triple).join("release");
        let cache = dir.join("cache");
        do_it(
            Command::new(programs.join("js5d")).arg("demo-cache").arg(&cache).stdout(Stdio::null()),
        )?;
        let debian = release.work.join("debian.tar");
        if !debian.exists() {
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap.args(["--quiet", "--variant=minbase", "bookworm"]);
            do_it(mmdebstrap.arg(&debian))?;
        }
        Ok(Self { dir, cache, programs, debian })
    }

    /// A fresh Debian, with the cache in it.
    fn root(&self, name: &str) -> Result<Root> {
        let root = self.dir.join(name);
        fs::create_dir_all(&root)?;
        do_it(Command::new("tar").arg("-xf").arg(&self.debian).arg("-C").arg(&root))?;
        do_it(Command::new("cp").arg("-r").arg(&self.cache).arg(root.join("cache")))?;
        do_it(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.join("proc")))?;
        Ok(Root(root))
    }

    fn archive(&self, release: &Release, target: &Target) -> Result<()> {
        let root = self.root("archive")?;
        let name = release.name(target);
        let archive = release.dist.join(format!("{name}.tar.gz"));
        // As docs/releasing.md says: over /usr/local.
        let local = root.0.join("usr/local");
        do_it(
            Command::new("tar")
                .args(["--strip-components=1", "-xzf"])
                .arg(archive)
                .arg("-C")
                .arg(&local),
        )?;
        for file in ["share/man/man1/js5d.1", "share/bash-completion/completions/js5d"] {
            expect(local.join(file).is_file(), || format!("the archive has no {file}"))?;
        }
        let version = said(root.run("js5-loadgen").arg("--version"))?;
        expect(version.ends_with(&release.version), || format!("js5-loadgen is {version}"))?;
        // A name of the root's own /etc/hosts: a static program looks names up by itself.
        fs::write(root.0.join("etc/hosts"), "127.0.0.1 game\n")?;
        let mut js5d = root.run("js5d");
        js5d.args(["serve", "--cache", "/cache", "--game-server", "game:1"]);
        self.serves("the archive, in a bare Debian", &mut js5d)
    }

    fn package(&self, release: &Release, target: &Target) -> Result<()> {
        let root = self.root("package")?;
        let name = format!("js5d_{}_{}.deb", release.version, target.called);
        fs::copy(release.dist.join(&name), root.0.join(&name))?;
        let installed = said_as_it_is(root.run("dpkg").args(["--install", &name]))?;
        let tells = installed.contains("js5d: the kernel's settings were not touched");
        expect(tells, || format!("the installation does not say what it left: {installed}"))?;
        let files = said_as_it_is(root.run("dpkg").args(["--listfiles", "js5d"]))?;
        let applied: Vec<_> = files.lines().filter(|file| file.contains("sysctl.d")).collect();
        expect(applied.is_empty(), || format!("it applies {applied:?}"))?;
        for wanted in [
            "/usr/bin/js5d",
            "/usr/share/man/man1/js5d.1.gz",
            "/etc/js5d/js5d.toml",
            "/lib/systemd/system/js5d.service",
            "/usr/share/doc/js5d/examples/50-js5d.conf",
        ] {
            let is_there =
                files.lines().any(|file| file == wanted || file == format!("/usr{wanted}"));
            expect(is_there, || format!("{wanted} is missing in:\n{files}"))?;
        }
        let mut js5d = root.run("js5d");
        js5d.args(["serve", "--config", "/etc/js5d/js5d.toml", "--cache", "/cache"]);
        self.serves("the Debian package, in a bare Debian", &mut js5d)?;
        do_it(root.run("dpkg").args(["--purge", "js5d"]).stdout(Stdio::null()))?;
        let left = root.0.join("etc/js5d").exists() || root.0.join("usr/bin/js5d").exists();
        expect(!left, || "a purge leaves files".to_owned())
    }

    /// By podman and runc, without a daemon, in a store of its own. The image holds nothing but
    /// the program, so this is where it shows that it is static.
    fn image(&self, release: &Release, target: &Target) -> Result<()> {
        let name = format!("js5d-{}-{}.oci.tar", release.version, target.called);
        let store = self.dir.join("podman");
        let podman = || {
            let mut podman = Command::new("podman");
            podman.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
            podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
            podman.args(["--runtime", "runc"]);
            podman
        };
        let loaded =
            said(podman().args(["load", "--quiet", "--input"]).arg(release.dist.join(name)))?;
        let image = loaded.rsplit(' ').next().unwrap_or_default();
        let mut run = podman();
        run.args(["run", "--rm", "--network", "host", "--read-only"]);
        run.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt"]);
        let profile = release.root.join("deploy/container/seccomp.json");
        run.arg(format!("seccomp={}", profile.display()));
        // Said, because podman asks for more by itself, which not every root may give.
        let files = getrlimit(Resource::Nofile).maximum.unwrap_or(65_536);
        run.arg("--ulimit").arg(format!("nofile={files}:{files}"));
        run.args(["--ulimit", "nproc=4096:4096"]);
        run.arg("--volume");
        run.arg(format!("{}:/cache:ro", self.cache.display())).arg(image);
        let served = self.serves("the image, by podman", run.args(["serve", "--cache", "/cache"]));
        // Its layers belong to the store, whose directory goes with the next check.
        do_it(podman().args(["rmi", "--all", "--force"]).stdout(Stdio::null()))?;
        served
    }

    /// Starts it on free ports; every byte must come, the status must be good, and SIGTERM must
    /// end it with 0.
    fn serves(&self, name: &str, js5d: &mut Command) -> Result<()> {
        js5d.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2"]);
        let mut server = Serving::start(js5d.stdin(Stdio::null()).stdout(Stdio::null()))
            .map_err(|error| format!("{name}: {error}"))?;
        let tried = self.talk_to(&mut server);
        tried.map_err(|error| format!("{name}: {error}\nit says:\n{}", server.log()))?;
        println!("ok    {name}: installed, serves every byte, answers, ends");
        Ok(())
    }

    fn talk_to(&self, server: &mut Serving) -> Result<()> {
        let admin = within("it has an admin address", || {
            server
                .log()
                .lines()
                .find_map(|line| Some(line.split_once(" admin address ")?.1.to_owned()))
        })?;
        let mut load = Command::new(self.programs.join("js5-loadgen"));
        let address = server.address().to_string();
        load.args(["run", &address, "--connections", "4", "--downloads", "1", "--quiet"]);
        do_it(load.args(["--ignore-limits", "--cache"]).arg(&self.cache))?;
        said(Command::new(self.programs.join("js5d")).args(["status", "--admin", &admin]))?;
        let pid = Pid::from_raw(i32::try_from(server.pid())?).ok_or("no process has this id")?;
        kill_process(pid, Signal::TERM)?;
        let ended = server.wait()?;
        expect(ended.success(), || format!("it ends with {ended}"))
    }
}

impl Root {
    /// A program in it.
    fn run(&self, program: &str) -> Command {
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.0).arg(program);
        chroot.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        chroot
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Nothing can be done about a failure; the next check finds the directory and says so.
        let _ = Command::new("umount").arg(self.0.join("proc")).status();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn expect(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if is_so { Ok(()) } else { Err(otherwise().into()) }
}

fn within<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("not within {} s: {what}", PATIENCE.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
