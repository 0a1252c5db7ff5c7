//! The house rules that no lint knows: what a module may name, that no imports run in a circle,
//! where `unsafe` may stand and how much of it, how long lines are, that options are documented.
//!
//! Source text is read, not parsed. Comments are left out where code is meant, and tests where
//! only the program is bound by a rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COLUMNS_MAX: usize = 100;

/// What may not be named: in which files, but for which ones, and the words.
const BOUNDARIES: &[(&str, &[&str], &[&str])] = &[
    (
        "src/protocol/",
        &[],
        &["std::net", "std::fs", "std::thread", "tokio", "tokio_uring", "Instant", "SystemTime"],
    ),
    // Decompressors speak in `Read` and `Write`, on slices.
    ("src/protocol/", &["src/protocol/container.rs"], &["std::io"]),
    (
        "src/protocol/",
        &[],
        &["cache", "catalog", "cli", "command", "config", "failure", "net", "platform", "settings"],
    ),
    (
        "src/cache/",
        &[],
        &[
            "protocol", "catalog", "cli", "command", "config", "failure", "net", "platform",
            "settings",
        ],
    ),
    ("src/catalog/", &[], &["cli", "command", "config", "failure", "net", "settings"]),
    ("src/net/", &[], &["cache", "cli", "command", "config", "failure", "settings"]),
    (
        "src/platform/",
        &[],
        &["protocol", "cache", "catalog", "cli", "command", "config", "failure", "net", "settings"],
    ),
    ("src/admin/", &[], &["cache", "cli", "command", "config", "failure", "platform", "settings"]),
    (
        "src/",
        &["src/admin/", "src/cli", "src/command/", "src/failure.rs"],
        &["admin", "hyper", "prometheus", "procfs"],
    ),
    // Addresses are all that it may know of a network.
    (
        "src/proxy/",
        &[],
        &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "std::io",
            "std::fs",
            "std::thread",
            "std::os",
            "tokio",
            "socket2",
            "rustix",
            "libc",
            "Instant",
            "SystemTime",
        ],
    ),
    (
        "src/proxy/",
        &[],
        &["protocol", "cache", "catalog", "cli", "command", "config", "failure", "net", "platform"],
    ),
    ("src/", &["src/proxy/"], &["ppp"]),
    // What holds is known by clap types alone, whatever they lead to.
    ("src/settings/", &[], &["cache", "catalog", "command", "config", "net", "platform"]),
    ("src/cli", &[], &["cache", "command", "config", "failure", "platform", "settings"]),
    ("src/", &["src/net/", "src/cache/file.rs"], &["tokio_uring"]),
    ("src/", &["src/main.rs"], &["main"]),
];

/// Names of our own modules, which count only as `crate::NAME` or `js5d::NAME`.
const MODULES: &[&str] = &[
    "admin", "cache", "catalog", "cli", "command", "config", "failure", "main", "net", "platform",
    "protocol", "proxy", "settings",
];

/// Where `unsafe` may stand, and on how many lines: one more is to be seen by who reviews it.
const UNSAFE_IN: &[(&str, usize)] = &[
    ("src/platform/", 9),
    ("src/net/driver/", 4),
    ("loadgen/ring/", 14),
    ("loadgen/src/engine/connection.rs", 1),
    ("benches/compare/src/sending.rs", 2),
];

/// Words that have no place in what is committed. Put together here, so that this file has none.
fn banned() -> [String; 5] {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["dbg", "!("], ["todo", "!("]]
        .map(|word| word.concat())
}

struct Source {
    /// Relative to the workspace, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// Code lines with their numbers, comments taken off. Strings are left as they are.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &'_ str| line.split_once("//").map_or(line.len(), |(code, _)| code.len());
        self.text.lines().enumerate().map(move |(place, line)| (place + 1, &line[..code(line)]))
    }

    /// Code of the program itself: not of tests, which stand at the end of a file or in their own.
    fn program_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.ends_with("_tests.rs") || self.path.contains("/tests/");
        let lines: Vec<_> = self.text.lines().collect();
        let inline = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        let end = if is_test { 0 } else { inline.unwrap_or(lines.len()) };
        self.code().take(end)
    }

    /// The `//!` lines at the beginning.
    fn head(&self) -> String {
        let is_head = |line: &&str| line.starts_with("//!");
        self.text.lines().take_while(is_head).collect::<Vec<_>>().join(" ").replace(" //!", "")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    let members = ["src", "tests", "benches", "examples", "loadgen", "fuzz", "testkit", "xtask"];
    members.iter().for_each(|member| collect(&root().join(member), &mut paths));
    paths.sort();
    let sources: Vec<_> = paths
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("UTF-8"),
            path: path.strip_prefix(root()).expect("inside").to_str().expect("plain").into(),
        })
        .collect();
    assert!(sources.len() > 40, "the sources were not found");
    sources
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    // Not every kind of target exists.
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("readable").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Whether `text` has `word`, not as a part of a longer one.
fn names(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn check(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn modules_keep_to_their_boundaries() {
    let mut offences = Vec::new();
    for source in sources() {
        for (place, except, words) in BOUNDARIES {
            if !source.path.starts_with(place) || is_in(&source.path, except) {
                continue;
            }
            for (line, code) in source.program_code() {
                if code.contains("crate::{") {
                    offences.push(format!("{}:{line}: hides what it names", source.path));
                }
                for word in *words {
                    let found = if MODULES.contains(word) {
                        names(code, &format!("crate::{word}"))
                            || names(code, &format!("js5d::{word}"))
                    } else {
                        names(code, word)
                    };
                    if found {
                        offences.push(format!("{}:{line}: names {word}", source.path));
                    }
                }
            }
        }
    }
    check(&offences);
}

#[test]
fn unsafe_stands_where_it_may_with_its_reason() {
    let mut offences = Vec::new();
    let mut counts = [0; UNSAFE_IN.len()];
    for source in sources() {
        let lines: Vec<_> = source.text.lines().collect();
        for (line, code) in source.code().filter(|(_, code)| names(code, "unsafe")) {
            if source.path == "tests/tidy.rs" {
                continue;
            }
            match UNSAFE_IN.iter().position(|(place, _)| source.path.starts_with(place)) {
                Some(place) => counts[place] += 1,
                None => offences.push(format!("{}:{line}: unsafe code", source.path)),
            }
            let above = lines[..line - 1].iter().rev();
            let comment = above.take_while(|line| line.trim_start().starts_with("//"));
            let reasons = ["// SAFETY:", "/// # Safety"];
            let has_reason = |line: &&str| reasons.iter().any(|reason| line.contains(reason));
            if code.contains('{') && !comment.clone().any(has_reason) {
                offences.push(format!("{}:{line}: no '// SAFETY:' above", source.path));
            }
        }
    }
    for ((place, expected), found) in UNSAFE_IN.iter().zip(counts) {
        if found != *expected {
            offences.push(format!("{place}: {found} lines of unsafe code, not {expected}"));
        }
    }
    check(&offences);
}

/// What a file names of its own crate, imported or not, as paths from the crate's root.
fn named_paths(source: &Source, module: &[String]) -> Vec<Vec<String>> {
    let text: String = source.program_code().flat_map(|(_, code)| [code, "\n"]).collect();
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = text.match_indices("crate::").chain(text.match_indices("super::"));
    let mut found = Vec::new();
    for (at, _) in starts.filter(|(at, _)| !text[..*at].ends_with(is_path)) {
        let (path, after) = text[at..].split_at(text[at..].find(|c| !is_path(c)).unwrap_or(0));
        let parts: Vec<_> = path.split("::").filter(|part| !part.is_empty()).collect();
        let supers = parts.iter().take_while(|part| **part == "super").count();
        let Some(kept) = module.len().checked_sub(supers) else { continue };
        let base = if supers == 0 { &[] } else { &module[..kept] };
        let list = after.strip_prefix('{').and_then(|list| list.split('}').next());
        for name in list.unwrap_or_default().split(',') {
            let rest = parts[supers.max(1)..].iter().copied().chain(name.trim().split("::"));
            found.push(base.iter().cloned().chain(rest.map(str::to_owned)).collect());
        }
    }
    found
}

/// The module that a file is, from its crate's root.
fn module_of(path: &str, root: &str) -> Vec<String> {
    let inside = path[root.len()..].trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').map(str::to_owned).collect()
}

/// Which of a folder's modules name which in a circle, at any depth below them.
fn circles(sources: &[Source], root: &str) -> Vec<(String, String)> {
    let sources: Vec<_> = sources.iter().filter(|source| source.path.starts_with(root)).collect();
    let modules: Vec<_> = sources.iter().map(|source| module_of(&source.path, root)).collect();
    let mut edges = BTreeSet::new();
    for (source, module) in sources.iter().zip(&modules) {
        for target in named_paths(source, module) {
            let common = target.iter().zip(module).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (module.get(common), target.get(common)) else {
                continue;
            };
            let folder = &module[..common];
            let is_module = modules.iter().any(|other| {
                other.len() > common && other[..common] == *folder && other[common] == *to
            });
            if is_module {
                let name = |last: &str| [folder, &[last.to_owned()]].concat().join("::");
                edges.insert((name(from), name(to)));
            }
        }
    }
    // A module that no remaining module names, or that names none, is in no circle.
    loop {
        let before = edges.len();
        let named: Vec<_> = edges.iter().map(|(_, to)| to.clone()).collect();
        edges.retain(|(from, _)| named.contains(from));
        let naming: Vec<_> = edges.iter().map(|(from, _)| from.clone()).collect();
        edges.retain(|(_, to)| naming.contains(to));
        if edges.len() == before {
            return edges.into_iter().collect();
        }
    }
}

#[test]
fn imports_run_in_no_circle_among_the_modules_of_a_folder() {
    let sources = sources();
    let roots = ["src/", "loadgen/src/", "testkit/src/", "xtask/src/", "benches/compare/src/"];
    let found = roots.iter().flat_map(|root| {
        let circles = circles(&sources, root).into_iter();
        circles.map(move |(from, to)| format!("{root}: {from} names {to}"))
    });
    check(&found.collect::<Vec<_>>());
}

#[test]
fn a_circle_would_be_found() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let mut sources = vec![
        source("src/a.rs", "use crate::b::{C, D};"),
        source("src/b.rs", "use crate::c::d::E;"),
        source("src/c/d.rs", "use super::{f::G, H};"),
        source("src/c/f.rs", "// use crate::a\nuse crate::e;"),
        source("src/e.rs", "fn f() { crate::std() }"),
    ];
    assert_eq!(circles(&sources, "src/"), []);
    sources[4].text = "fn f() -> crate::a::H {}".to_owned();
    let found = circles(&sources, "src/");
    let names: Vec<_> = found.iter().map(|(from, to)| format!("{from} {to}")).collect();
    assert_eq!(names, ["a b", "b c", "c e", "e a"]);
    sources[3].text = "fn f() { crate::c::d::g() }".to_owned();
    assert_eq!(circles(&sources, "src/").len(), 2, "c::d and c::f");
}

#[test]
fn documents_name_every_place_with_unsafe_code() {
    let mut offences = Vec::new();
    for document in ["SECURITY.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).expect("UTF-8");
        let missing = UNSAFE_IN.iter().filter(|(place, _)| !text.contains(&format!("`{place}`")));
        offences.extend(missing.map(|(place, _)| format!("{document} does not name {place}")));
    }
    check(&offences);
}

#[test]
fn chores_build_what_is_locked() {
    let alias = fs::read_to_string(root().join(".cargo/config.toml")).expect("UTF-8");
    let lines = alias.lines().filter(|line| line.starts_with("xtask ="));
    let mut offences: Vec<_> = lines
        .filter(|line| !line.contains(" --locked "))
        .map(|line| format!(".cargo/config.toml: {line}"))
        .collect();
    // Each file that runs cargo builds one command.
    let runs = |source: &Source| source.text.contains("var_os(\"CARGO\")");
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs" && runs(source)) {
        if !source.text.contains("\"--locked\"") {
            offences.push(format!("{}: cargo without --locked", source.path));
        }
    }
    check(&offences);
}

#[test]
fn files_say_what_they_are() {
    let mut offences = Vec::new();
    for source in sources() {
        let (path, head) = (&source.path, source.head());
        if head.is_empty() {
            offences.push(format!("{path}: no '//!' head"));
        }
        for (place, line) in source.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                offences.push(format!("{path}:{}: too long", place + 1));
            }
            if line != line.trim_end() || line.contains('\t') {
                offences.push(format!("{path}:{}: stray white space", place + 1));
            }
            for word in banned().iter().filter(|word| line.contains(*word)) {
                offences.push(format!("{path}:{}: {word}", place + 1));
            }
        }
    }
    check(&offences);
}

/// The options that `js5d COMMAND --help` lists.
fn options_of(command: &[&str]) -> Vec<String> {
    let mut js5d = Command::new(env!("CARGO_BIN_EXE_js5d"));
    let output = js5d.args(command).arg("--help").output().expect("js5d starts");
    let help = String::from_utf8(output.stdout).expect("text");
    let option = |line: &str| {
        let (_, rest) = line.split_once("--")?;
        let before = line.split("--").next()?.trim();
        let is_option = before.is_empty() || (before.starts_with('-') && before.ends_with(','));
        let name = rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next()?;
        is_option.then(|| format!("--{name}"))
    };
    help.lines()
        .filter_map(option)
        .filter(|name| !["--help", "--version"].contains(&&name[..]))
        .collect()
}

/// Options of `serve` are settings, which have a document of their own; it is compared with the
/// program in tests/features/settings.rs.
#[test]
fn every_option_is_documented() {
    let document = |name: &str| fs::read_to_string(root().join(name)).expect("a document");
    let (listed, settings) = (document("docs/commands.md"), document("docs/settings.md"));
    let serve = options_of(&[]);
    assert!(serve.len() >= 20, "{serve:?}");
    for option in &serve {
        assert!(names(&settings, option), "{option} is not in docs/settings.md");
    }
    let commands: [(&str, usize); 11] = [
        ("check", 2),
        ("config", 20),
        ("demo-cache", 3),
        ("fetch", 7),
        ("convert", 2),
        ("crcs", 1),
        ("diff", 3),
        ("man", 1),
        ("completions", 0),
        ("status", 2),
        ("reload", 1),
    ];
    for (command, count_min) in commands {
        assert!(names(&listed, &format!("js5d {command}")), "{command} is not in docs/commands.md");
        let options = options_of(&[command]);
        assert!(options.len() >= count_min, "{command}: {options:?}");
        for option in options.iter().filter(|option| !serve.contains(option)) {
            assert!(names(&listed, option), "{command}: {option} is not in docs/commands.md");
        }
    }
}

/// The table of commands is not checked against the help above, only named; so what it names must
/// be there.
#[test]
fn every_option_that_the_commands_page_shows_is_there() {
    let section = fs::read_to_string(root().join("docs/commands.md")).expect("a page");
    let commands = [
        &[][..],
        &["check"],
        &["config"],
        &["demo-cache"],
        &["man"],
        &["fetch"],
        &["convert"],
        &["crcs"],
        &["diff"],
        &["status"],
    ];
    let known: Vec<_> = commands.iter().flat_map(|command| options_of(command)).collect();
    let is_end = |c: char| !c.is_ascii_lowercase() && c != '-';
    let shown: Vec<_> = section
        .match_indices("`--")
        .map(|(at, _)| section[at + 1..].split(is_end).next().unwrap_or_default())
        .collect();
    assert!(shown.len() >= 8, "{shown:?}");
    for option in shown {
        assert!(
            known.iter().any(|known| known == option),
            "docs/commands.md: there is no {option}"
        );
    }
}
