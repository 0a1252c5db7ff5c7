//! The instruction-count gate: each hot path under callgrind, compared with checked-in baselines.
//!
//! Started without a case it starts valgrind on itself, a process for each case, so that no case
//! depends on another. Times on a shared machine vary; instruction counts are the same in every run
//! with the compiler, C library and target features of the baselines. The file names these. If they
//! differ, a rise fails with `--strict` only.
//! It is an example to Cargo, because an example is built as the program is (docs/performance.md).
#![allow(missing_docs, unreachable_pub, reason = "a benchmark has no interface")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use support::cases::{CASES, Operation};

/// Operations a case that are counted.
const COUNTED: u32 = 20;
/// A rise above this fails. A new compiler changes counts by less, a needless copy by much more.
const RISE_MAX: f64 = 0.03;
/// A fall below this asks for new baselines, or the next rise would hide in it.
const FALL_MAX: f64 = 0.03;

/// In front of the arguments.
const COMMAND: &str = "cargo run --release --example instructions --";

/// glibc picks its copying routine and its limits by the machine's features and cache sizes; and
/// large blocks from `mmap` begin at the same place in their page whatever was allocated before.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX2_Usable,-AVX,\
-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-RTM,-Fast_Unaligned_Copy:\
glibc.cpu.x86_non_temporal_threshold=0x1000000:glibc.malloc.mmap_threshold=1024";

/// What the arguments ask for.
#[derive(Default)]
struct Options {
    /// In valgrind: run this case.
    run: Option<String>,
    update: bool,
    strict: bool,
    /// Only cases whose names contain this.
    name: String,
}

/// What counts depend on beside the code.
type Setting = BTreeMap<&'static str, String>;

/// The checked-in file.
#[derive(Default)]
struct Baselines {
    setting: BTreeMap<String, String>,
    counts: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: {COMMAND} [--update] [--strict] [NAME]");
        return ExitCode::from(2);
    };
    if let Some(name) = &options.run {
        return run_case(name);
    }
    match gate(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("instructions: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--run" => options.run = Some(args.next()?),
            "--update" => options.update = true,
            "--strict" => options.strict = true,
            name if !name.starts_with('-') => options.name = name.to_owned(),
            _ => return None,
        }
    }
    Some(options)
}

/// The child's whole work.
fn run_case(name: &str) -> ExitCode {
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        return ExitCode::FAILURE;
    };
    let mut operation = (case.prepare)();
    // Buffers grow to their size first.
    operation();
    operation();
    counted_by_callgrind(&mut operation);
    ExitCode::SUCCESS
}

/// Callgrind counts from entering this function to leaving it: its name is given to valgrind.
#[inline(never)]
fn counted_by_callgrind(operation: &mut Operation) {
    for _ in 0..COUNTED {
        operation();
    }
}

/// Measures and compares. False if a count has risen too much.
fn gate(options: &Options) -> Result<bool, String> {
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        let missing = format!("valgrind does not start ({error}); Debian's package is `valgrind`");
        if options.strict || options.update {
            return Err(missing);
        }
        println!("SKIP: {missing}");
        return Ok(true);
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
    let known = read(&std::fs::read_to_string(&path).unwrap_or_default())?;
    let setting = setting();
    let mut counts = known.counts.clone();
    counts.retain(|name, _| CASES.iter().any(|case| case.name == name));
    let bad = measure(&options.name, &known, &mut counts)?;
    if options.update {
        std::fs::write(&path, write(&setting, &counts)).map_err(|error| error.to_string())?;
        println!("written to {}", path.display());
        return Ok(true);
    }
    let same = is_same(&setting, &known);
    if bad == 0 {
        return Ok(true);
    }
    println!(
        "Cases that have no baseline or rose above it by more than {:.0} %: {bad}.",
        RISE_MAX * 100.0
    );
    println!("If that is meant, or the compiler's doing, take baselines and commit the file:");
    println!("    {COMMAND} --update");
    Ok(!(same || options.strict))
}

/// Counts the cases with `wanted` in their names, and prints them beside what is `known`. Comes
/// back with how many may not pass.
fn measure(
    wanted: &str,
    known: &Baselines,
    counts: &mut BTreeMap<String, f64>,
) -> Result<usize, String> {
    let cases: Vec<_> = CASES.iter().filter(|case| case.name.contains(wanted)).collect();
    if cases.is_empty() {
        return Err(format!("no case has {wanted:?} in its name"));
    }
    let mut bad = 0;
    println!("{:<28} {:>10} {:>10} {:>7} {:>6}", "case", "baseline", "here", "a byte", "ratio");
    for case in cases {
        let name = case.name;
        let here = count(name)?;
        let a_byte = here / case.bytes as f64;
        counts.insert(name.to_owned(), here);
        let Some(&baseline) = known.counts.get(name) else {
            println!("{name:<28} {:>10} {here:>10.1} {a_byte:>7.3} {:>6} NO BASELINE", "-", "-");
            bad += 1;
            continue;
        };
        let ratio = here / baseline;
        let verdict = match ratio - 1.0 {
            rise if rise > RISE_MAX => "LONGER",
            rise if rise < -FALL_MAX => "shorter: --update keeps the gain",
            _ => "",
        };
        bad += usize::from(ratio - 1.0 > RISE_MAX);
        println!("{name:<28} {baseline:>10.1} {here:>10.1} {a_byte:>7.3} {ratio:>6.3} {verdict}");
    }
    Ok(bad)
}

/// Whether the baselines were taken with what is found here; prints where they differ.
fn is_same(setting: &Setting, known: &Baselines) -> bool {
    let there = |key: &str| known.setting.get(key).map_or("none", String::as_str);
    let differ: Vec<_> = setting.iter().filter(|&(key, here)| there(key) != here).collect();
    if !differ.is_empty() {
        println!("WARN: the baselines were taken elsewhere; only with --strict do they bind here");
    }
    for (key, here) in &differ {
        println!("  {key}: {here:?} here, {:?} there", there(key));
    }
    differ.is_empty()
}

/// Instructions an operation of a case, by callgrind.
fn count(name: &str) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg(program)
        .args(["--run", name])
        // What the environment holds moves the stack, and a tunable set there moves more.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    match collected.and_then(|(_, count)| count.trim().parse::<u64>().ok()) {
        Some(count) if output.status.success() && count > 0 => {
            Ok(count as f64 / f64::from(COUNTED))
        }
        _ => Err(format!("{name} gave no count ({})\n{text}", output.status)),
    }
}

/// What the counts depend on, as found here. Cargo hands its own environment on, so settings that
/// override the profile show.
fn setting() -> Setting {
    let first_line = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
    };
    let features = [
        (cfg!(target_feature = "sse4.2"), "sse4.2"),
        (cfg!(target_feature = "avx2"), "avx2"),
        (cfg!(target_feature = "avx512f"), "avx512f"),
    ];
    let features: Vec<_> = features.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    let overrides = std::env::vars().filter(|(key, _)| {
        key.starts_with("CARGO_PROFILE_") || key.starts_with("CARGO_ENCODED_") || key == "RUSTFLAGS"
    });
    let overrides: Vec<_> = overrides.map(|(key, value)| format!("{key}={value}")).collect();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    Setting::from([
        ("arch", std::env::consts::ARCH.to_owned()),
        ("features", features.join(" ")),
        ("overrides", overrides.join(" ")),
        ("libc", first_line("getconf", "GNU_LIBC_VERSION")),
        ("rustc", first_line(&rustc, "-V")),
        ("valgrind", first_line("valgrind", "--version")),
    ])
}

/// Reads what [`write`] writes: lines `key = value`, of which quoted ones are the setting.
fn read(text: &str) -> Result<Baselines, String> {
    let mut baselines = Baselines::default();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let wrong = || format!("benches/instructions.toml: {line:?} is not understood");
        let (key, value) = line.split_once(" = ").ok_or_else(wrong)?;
        if let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
            baselines.setting.insert(key.to_owned(), quoted.to_owned());
        } else {
            let count = value.parse().map_err(|_| wrong())?;
            baselines.counts.insert(key.to_owned(), count);
        }
    }
    Ok(baselines)
}

fn write(setting: &Setting, counts: &BTreeMap<String, f64>) -> String {
    let mut text = format!(
        "# Instructions an operation, by callgrind. Written by\n# `{COMMAND} --update`;\n\
         # see docs/performance.md.\n\n[setting]\n"
    );
    // Writing to a string cannot fail.
    for (key, value) in setting {
        let _ = writeln!(text, "{key} = \"{value}\"");
    }
    text.push_str("\n[counts]\n");
    for (name, count) in counts {
        let _ = writeln!(text, "{name} = {count:.2}");
    }
    text
}
