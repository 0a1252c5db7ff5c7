//! No circle of imports, so that a reader of a file needs to know only the files that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Modules by name, `engine::pace`, with the text of each without its tests.
fn modules(dir: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = if prefix.is_empty() { stem.to_owned() } else { format!("{prefix}::{stem}") };
        if path.is_dir() {
            modules(&path, &name, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !stem.ends_with("_tests")
        {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
            into.insert(if stem == "mod" { prefix.to_owned() } else { name }, text);
        }
    }
}

/// The modules that a text names by `crate::` or, from within a folder, by `super::`.
fn named(name: &str, text: &str, all: &BTreeMap<String, String>) -> BTreeSet<String> {
    let parent = name.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = BTreeSet::new();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    for (start, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            for path in paths(rest) {
                let whole = if base.is_empty() { path } else { format!("{base}::{path}") };
                // The longest beginning of the path that is a file.
                let mut words: Vec<&str> = whole.split("::").collect();
                while !words.is_empty() && !all.contains_key(&words.join("::")) {
                    words.pop();
                }
                found.insert(words.join("::"));
            }
        }
    }
    found.remove(name);
    // A folder's own file lists what is in it; that is no import.
    found.retain(|other| !other.is_empty() && !other.starts_with(&format!("{name}::")));
    found
}

/// `a::b::C` as it is, `{a::B, c}` as two.
fn paths(rest: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    match rest.strip_prefix('{') {
        Some(list) => {
            let list = list.split('}').next().unwrap();
            list.split(',').map(|part| part.trim().to_owned()).collect()
        }
        None => {
            let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
            vec![rest[..end].trim_end_matches(':').to_owned()]
        }
    }
}

/// A way from a module back to itself, if there is one.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'a>(
        at: &'a str,
        uses: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|&before| before == at) {
            return Some(way[start..].iter().map(ToString::to_string).collect());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at);
        let found = uses[at].iter().find_map(|next| walk(next, uses, way, done));
        way.pop();
        done.insert(at);
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|start| walk(start, uses, &mut Vec::new(), &mut done))
}

fn uses(all: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    all.iter().map(|(name, text)| (name.clone(), named(name, text, all))).collect()
}

#[test]
fn no_module_leads_back_to_itself() {
    let mut all = BTreeMap::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 40 && all.contains_key("engine::pace"), "the sources were not found");
    assert_eq!(circle(&uses(&all)), None);
}

#[test]
fn a_circle_would_be_found() {
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let mut all = BTreeMap::from([
        text("a", "use crate::b::{C, D};"),
        text("b", "use crate::c::d::E;"),
        text("c", "mod d;"),
        text("c::d", "use crate::e;\nuse super::f::G;"),
        text("c::f", "// use crate::a"),
        text("e", "fn f() { crate::std() }"),
    ]);
    assert_eq!(uses(&all)["c::d"], ["c::f", "e"].map(str::to_owned).into());
    assert_eq!(circle(&uses(&all)), None);
    all.insert("e".to_owned(), "fn f() -> crate::a::H {}".to_owned());
    let found = circle(&uses(&all)).unwrap();
    assert_eq!(found, ["a", "b", "c::d", "e"]);
}
