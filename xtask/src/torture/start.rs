//! Row 15: a server that cannot start says why, and what to do, at once.

use super::Findings;
use super::bench::{Bench, has_program, is_root};
use crate::compare::Result;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testkit::{Denial, deny_ring};

/// After this time a server has started that should not have.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Something in the way.
struct Obstacle {
    name: &'static str,
    command: Command,
    exit: i32,
    /// What the cause names.
    named: String,
}

impl Obstacle {
    fn new(name: &'static str, command: Command, exit: i32, named: &str) -> Self {
        Self { name, command, exit, named: named.to_owned() }
    }
}

/// Each obstacle: exit code, a line of cause, a line of remedy, within a second.
pub(super) fn refused(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let mut obstacles = of_settings(bench, &taken.local_addr()?.to_string())?;
    obstacles.extend(of_the_ring(bench, findings)?);
    obstacles.extend(of_permissions(bench, findings)?);
    for obstacle in obstacles {
        meet(obstacle, findings)?;
    }
    let _ = fs::remove_file(std::env::temp_dir().join("js5d-torture"));
    Ok(())
}

/// A port, caches, settings and descriptors that do not do.
fn of_settings(bench: &Bench, taken: &str) -> Result<Vec<Obstacle>> {
    let (broken, wrong) = (bench.dir.join("broken"), bench.dir.join("wrong.toml"));
    corrupt_copy(&bench.cache, &broken)?;
    fs::write(&wrong, "idle_timeuot = \"60s\"\n")?;
    let js5d = |arguments: &[&OsStr]| {
        let mut command = Command::new(&bench.js5d);
        command.args(arguments);
        command
    };
    let few = "ulimit -n 60; exec \"$0\" --cache \"$1\" --listen 127.0.0.1:0 --connections-max 100";
    let mut starved = Command::new("sh");
    starved.args(["-c", few]).arg(&bench.js5d).arg(&bench.cache);
    let (cache, listen) = (OsStr::new("--cache"), OsStr::new("--listen"));
    let any = OsStr::new("127.0.0.1:0");
    let nowhere = "/nowhere/at/all";
    let on_taken = js5d(&[cache, bench.cache.as_ref(), listen, taken.as_ref()]);
    let of_broken = js5d(&[cache, broken.as_ref(), listen, any]);
    let settings = js5d(&["--config".as_ref(), wrong.as_ref()]);
    Ok(vec![
        Obstacle::new("port taken", on_taken, 71, taken),
        Obstacle::new("cache missing", js5d(&[cache, nowhere.as_ref()]), 66, nowhere),
        Obstacle::new("cache corrupt", of_broken, 65, "corrupt"),
        Obstacle::new("wrong setting", settings, 78, "idle_timeuot"),
        Obstacle::new("few descriptors", starved, 71, "descriptors"),
    ])
}

/// No ring: under a filter, by the sysctl, on kernels and in processes that have none to give.
fn of_the_ring(bench: &Bench, findings: &mut Findings) -> Result<Vec<Obstacle>> {
    let js5d = |command: &mut Command| {
        command.arg(&bench.js5d).arg("--cache").arg(&bench.cache);
        command.args(["--listen", "127.0.0.1:0", "--driver", "ring"]);
    };
    let mut filtered = Command::new(std::env::current_exe()?);
    js5d(filtered.arg("without-ring"));
    let mut obstacles = vec![Obstacle::new("a seccomp filter", filtered, 69, "seccomp filter")];
    if !has_program("strace") {
        findings.skip("start: ring forbidden", "strace is missing, which forbids it");
        return Ok(obstacles);
    }
    let traced = |error: &str| {
        let inject = format!("inject=io_uring_setup:error={error}");
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup"]);
        js5d(command.args(["-e", &inject]));
        command
    };
    let errors = [
        ("ring forbidden", "EPERM", "not permitted"),
        ("ring unknown", "ENOSYS", "no io_uring"),
        ("ring of an old kernel", "EINVAL", "too old"),
        ("ring without memory", "ENOMEM", "memory"),
        ("ring without descriptor", "EMFILE", "ulimit -n"),
    ];
    obstacles
        .extend(errors.map(|(name, error, named)| Obstacle::new(name, traced(error), 69, named)));
    if !is_root() || !has_program("unshare") {
        findings.skip("start: ring off by sysctl", "only root can show a process another sysctl");
        return Ok(obstacles);
    }
    // The sysctl is the whole machine's: this process alone is shown another one.
    let value = bench.dir.join("io_uring_disabled");
    fs::write(&value, "2\n")?;
    let script = "mount --bind \"$0\" /proc/sys/kernel/io_uring_disabled && exec \"$@\"";
    let mut command = Command::new("unshare");
    let inner = traced("EPERM");
    command.args(["--mount", "sh", "-c", script]).arg(value).arg(inner.get_program());
    command.args(inner.get_args());
    obstacles.push(Obstacle::new("ring off by sysctl", command, 69, "io_uring_disabled=2"));
    Ok(obstacles)
}

/// Becomes a program that may not set up a ring, as under a container's default profile.
pub(crate) fn without_ring(command: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().ok_or("which program?")?;
    deny_ring(Denial::NotPermitted)?;
    Err(Command::new(program).args(arguments).exec().into())
}

/// A cache that belongs to another user.
fn of_permissions(bench: &Bench, findings: &mut Findings) -> Result<Option<Obstacle>> {
    if !is_root() || !has_program("setpriv") {
        findings.skip("start: cache unreadable", "only root can be somebody else (setpriv)");
        return Ok(None);
    }
    let closed = bench.dir.join("closed");
    fs::create_dir_all(&closed)?;
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    // A place where the other user may run it.
    let open = std::env::temp_dir().join("js5d-torture");
    fs::copy(&bench.js5d, &open)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups"]).arg(&open).arg("--cache").arg(&closed);
    Ok(Some(Obstacle::new("cache unreadable", command, 77, "ermission")))
}

/// Starts, and looks how it ends.
fn meet(obstacle: Obstacle, findings: &mut Findings) -> Result<()> {
    let Obstacle { name, mut command, exit, named } = obstacle;
    let start = Instant::now();
    // One that starts must not hold up the table.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    while child.try_wait()?.is_none() && start.elapsed() < TIME_MAX {
        thread::sleep(Duration::from_millis(2));
    }
    let seconds = start.elapsed().as_secs_f64();
    child.kill()?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let cause = text.lines().find(|line| line.starts_with("js5d: ")).unwrap_or_default();
    let remedy = text.lines().last().unwrap_or_default();
    let lines = text.lines().skip_while(|line| !line.starts_with("js5d: ")).count();
    // Of a corrupt cache, each group is named in between.
    let is_short = lines == 2 || exit == 65;
    let is_told =
        !cause.is_empty() && is_short && text.contains(&named) && remedy.starts_with("  ");
    let code = output.status.code();
    let told = if is_told { "told" } else { "not told" };
    let value = format!("exit {}, {told}", code.unwrap_or(-1));
    let name = format!("start: {name}");
    findings.holds(&name, value, &format!("exit {exit}, told"), code == Some(exit) && is_told);
    findings.at_most(&format!("{name}, time"), seconds, 1.0, " s");
    Ok(())
}

/// The cache with a byte of its data changed.
fn corrupt_copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    let data = to.join("main_file_cache.dat2");
    let mut bytes = fs::read(&data)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    Ok(fs::write(data, bytes)?)
}
