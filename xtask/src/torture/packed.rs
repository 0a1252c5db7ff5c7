//! Row 28: a whole cache through every form and a mirror; what is cut; what is killed.

use super::Findings;
use super::bench::{Bench, CLIENTS};
use crate::compare::Result;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Until a packed cache is checked, on two cores.
const READY_MAX: Duration = Duration::from_secs(2);
/// The forms, in the order in which the cache goes through them.
const FORMS: [&str; 4] = ["zip", "tar.gz", "flat", "dat2"];
/// How often a mirror is killed.
const KILLS: u64 = 20;

/// One generation throughout, in time; cut files and killed processes leave nothing half.
pub(super) fn packed(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let dir = bench.dir.join("packed");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let first = dir.join("first");
    let groups = bench.sized(71_273, 3_000).to_string();
    run(bench, &["demo-cache".as_ref(), first.as_ref(), "--groups".as_ref(), groups.as_ref()])?;
    let (expected, _) = verdict(bench, &first)?;
    let mut from = first;
    for form in FORMS {
        let to = dir.join(form);
        convert(bench, &from, &to, form)?;
        let (found, took) = verdict(bench, &to)?;
        let is_same = found == expected;
        findings.holds(&format!("packed: {form}"), &found, "as the first", is_same);
        findings.holds(
            &format!("packed: {form} is checked"),
            format!("{:.2} s", took.as_secs_f64()),
            "<= 2 s",
            took <= READY_MAX,
        );
        from = to;
    }
    cut(bench, findings, &dir)?;
    mirror(bench, findings, &dir)?;
    killed_conversions(bench, findings, &dir)
}

/// Cut at random, a packed cache is refused, with exit code 65.
fn cut(bench: &Bench, findings: &mut Findings, dir: &Path) -> Result<()> {
    for form in ["zip", "tar.gz"] {
        let bytes = fs::read(dir.join(form))?;
        let path = dir.join("cut");
        let (cases, mut refused) = (bench.sized(100, 10), 0);
        for _ in 0..cases {
            fs::write(&path, &bytes[..fastrand::usize(..bytes.len())])?;
            refused += usize::from(check(bench, &path)?.status.code() == Some(65));
        }
        let value = format!("{refused} of {cases} refused");
        findings.holds(&format!("packed: cut {form}"), value, "all", refused == cases);
    }
    Ok(())
}

/// A mirror that is killed again and again ends exact, and asks for each group about once.
fn mirror(bench: &Bench, findings: &mut Findings, dir: &Path) -> Result<()> {
    let to = dir.join("mirror");
    // Slow enough to be killed so often.
    let server = bench.serve(&["--egress-max", "600kB/s"])?;
    let address = server.address.to_string();
    let fetch = || {
        let mut command = Command::new(&bench.js5d);
        command.args(["fetch", &address]).arg(&to).args(["--window", "5"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut early = 0;
    for kill in 0..KILLS {
        let mut child = fetch().spawn()?;
        thread::sleep(Duration::from_millis(50 + kill * 5));
        early += u64::from(child.try_wait()?.is_some());
        child.kill()?;
        child.wait()?;
    }
    findings.holds("mirror: ended before it was killed", early, "none", early == 0);
    let found = if to.exists() { "a directory" } else { "nothing" };
    findings.holds("mirror: at its place after the kills", found, "nothing", !to.exists());
    let status = fetch().status()?;
    findings.holds("mirror: ends", status, "exit status: 0", status.success());
    let expected = verdict(bench, &bench.cache)?.0;
    let found = verdict(bench, &to)?.0;
    let is_same = found == expected;
    findings.holds("mirror: is", found, "as what it mirrors", is_same);
    thread::sleep(Duration::from_millis(500));
    let metrics = server.metrics()?;
    let of = |class| metrics.value(&format!("js5d_requests_total{{class=\"{class}\"}}"));
    // The master index is asked for on each connection.
    let asked = of("urgent") + of("prefetch") - (KILLS + 1) as f64;
    let each = asked / 3_000.0;
    findings.at_most("mirror: requests a group", each, 1.05, "");
    mirror_as_each(bench, findings, &to, &expected)
}

/// A mirror that asks as any other client has the same cache: what a framing or a master index
/// says otherwise on the wire is gone.
fn mirror_as_each(bench: &Bench, findings: &mut Findings, to: &Path, expected: &str) -> Result<()> {
    let server = bench.serve(&[])?;
    let address = server.address.to_string();
    let mut other = Vec::new();
    for client in CLIENTS {
        remove(to)?;
        let arguments = ["fetch", &address, "--client", client].map(OsStr::new);
        run(bench, &[&arguments[..], &[to.as_ref()]].concat())?;
        other.extend((verdict(bench, to)?.0 != expected).then_some(client));
    }
    let value = if other.is_empty() { "none".to_owned() } else { other.join(", ") };
    let name = format!("mirror: others than it, as {}", CLIENTS.join(", "));
    findings.holds(&name, value, "none", other.is_empty());
    Ok(())
}

/// A conversion that is killed leaves nothing that is taken for a whole cache.
fn killed_conversions(bench: &Bench, findings: &mut Findings, dir: &Path) -> Result<()> {
    let from = dir.join("dat2");
    for form in FORMS {
        let to = dir.join("killed");
        let expected = verdict(bench, &from)?.0;
        let (mut killed, mut half) = (0, 0);
        for _ in 0..bench.sized(20, 5) {
            let mut child = Command::new(&bench.js5d)
                .arg("convert")
                .args([&from, &to])
                .args(["--format", form])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            thread::sleep(Duration::from_millis(fastrand::u64(2..400)));
            killed += u32::from(child.try_wait()?.is_none());
            child.kill()?;
            child.wait()?;
            for path in [to.clone(), dir.join("killed.js5d-partial")] {
                if path.exists() {
                    let output = check(bench, &path)?;
                    half += u32::from(output.status.success() && last_line(&output) != expected);
                }
            }
            remove(&to)?;
        }
        let value = format!("{half} of {killed} killed are taken for whole");
        findings.holds(&format!("convert: killed, {form}"), value, "none", half == 0);
        convert(bench, &from, &to, form)?;
        let found = verdict(bench, &to)?.0;
        let is_same = found == expected;
        findings.holds(&format!("convert: after that, {form}"), found, "whole", is_same);
        remove(&to)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn convert(bench: &Bench, from: &Path, to: &PathBuf, form: &str) -> Result<()> {
    let arguments = ["convert".as_ref(), from.as_ref(), to.as_ref(), "--format".as_ref()];
    run(bench, &[&arguments[..], &[form.as_ref()]].concat())
}

/// Runs a command that must succeed.
fn run(bench: &Bench, arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(&bench.js5d).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn check(bench: &Bench, cache: &Path) -> Result<Output> {
    Ok(Command::new(&bench.js5d).arg("check").arg("--cache").arg(cache).output()?)
}

/// The last line of a check, which has the generation, and how long it took.
fn verdict(bench: &Bench, cache: &Path) -> Result<(String, Duration)> {
    let start = Instant::now();
    let output = check(bench, cache)?;
    Ok((last_line(&output), start.elapsed()))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}
