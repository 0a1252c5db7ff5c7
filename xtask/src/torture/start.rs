//! Row 15: a server that cannot start says why, and what to do, at once.

use super::Findings;
use super::bench::{Bench, has_program, is_root};
use crate::compare::Result;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// After this time a server has started that should not have.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Something in the way.
struct Obstacle<'a> {
    name: &'a str,
    command: Command,
    exit: i32,
    /// What the cause names.
    named: &'a str,
}

/// Each obstacle: exit code, a line of cause, a line of remedy, within a second.
pub(super) fn refused(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken_at = taken.local_addr()?.to_string();
    let broken = bench.dir.join("broken");
    corrupt_copy(&bench.cache, &broken)?;
    let wrong = bench.dir.join("wrong.toml");
    fs::write(&wrong, "idle_timeuot = \"60s\"\n")?;
    let cache = bench.cache.to_string_lossy().into_owned();
    let js5d = |arguments: &[&str]| {
        let mut command = Command::new(&bench.js5d);
        command.args(arguments);
        command
    };
    let under = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg(&bench.js5d).args([
            "--cache",
            &cache,
            "--listen",
            "127.0.0.1:0",
        ]);
        command
    };
    let broken_at = broken.to_string_lossy().into_owned();
    let wrong_at = wrong.to_string_lossy().into_owned();
    let few = "ulimit -n 60; exec \"$0\" --cache \"$1\" --listen 127.0.0.1:0 --connections-max 100";
    let mut starved = Command::new("sh");
    starved.args(["-c", few]).arg(&bench.js5d).arg(&cache);
    let mut obstacles = vec![
        Obstacle {
            name: "port taken",
            command: js5d(&["--cache", &cache, "--listen", &taken_at]),
            exit: 71,
            named: &taken_at,
        },
        Obstacle {
            name: "cache missing",
            command: js5d(&["--cache", "/nowhere/at/all"]),
            exit: 66,
            named: "/nowhere/at/all",
        },
        Obstacle {
            name: "cache corrupt",
            command: js5d(&["--cache", &broken_at, "--listen", "127.0.0.1:0"]),
            exit: 65,
            named: "corrupt",
        },
        Obstacle {
            name: "wrong setting",
            command: js5d(&["--config", &wrong_at]),
            exit: 78,
            named: "idle_timeuot",
        },
        Obstacle { name: "few descriptors", command: starved, exit: 71, named: "descriptors" },
    ];
    if has_program("strace") {
        for (name, error) in [("ring forbidden", "EPERM"), ("ring unknown", "ENOSYS")] {
            let inject = format!("inject=io_uring_setup:error={error}");
            let tracing =
                ["-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e", &inject];
            let command = under("strace", &tracing);
            obstacles.push(Obstacle { name, command, exit: 69, named: "io_uring" });
        }
    } else {
        findings.skip("start: ring forbidden", "strace is missing, which forbids it");
    }
    if is_root() && has_program("setpriv") {
        let closed = bench.dir.join("closed");
        fs::create_dir_all(&closed)?;
        fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let closed_at = closed.to_string_lossy().into_owned();
        let open = std::env::temp_dir().join("js5d-torture");
        fs::copy(&bench.js5d, &open)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--clear-groups"])
            .arg(&open)
            .args(["--cache", &closed_at]);
        obstacles.push(Obstacle {
            name: "cache unreadable",
            command,
            exit: 77,
            named: "ermission",
        });
    } else {
        findings.skip("start: cache unreadable", "only root can be somebody else (setpriv)");
    }
    for Obstacle { name, mut command, exit, named } in obstacles {
        let start = Instant::now();
        // One that starts all the same must not hold up the table.
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
        let is_told = !cause.is_empty() && text.contains(named) && remedy.starts_with("  ");
        let code = output.status.code();
        let value =
            format!("exit {}, {}", code.unwrap_or(-1), if is_told { "told" } else { "not told" });
        let name = format!("start: {name}");
        findings.holds(&name, value, &format!("exit {exit}, told"), code == Some(exit) && is_told);
        findings.at_most(&format!("{name}, time"), seconds, 1.0, " s");
    }
    let _ = fs::remove_file(std::env::temp_dir().join("js5d-torture"));
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
