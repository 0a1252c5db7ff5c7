//! What the documents lead to is there: files, headings, and the tests that they name.
//!
//! The text is read as lines, not as Markdown: headings begin with `#`, links are `[..](..)`.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with this ending; what is built or fetched is left out.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
            if path.is_dir() {
                let is_source = name != "target" && (!name.starts_with('.') || name == ".ci");
                dirs.extend(is_source.then_some(path));
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines outside code blocks, with their numbers and without code spans.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(place, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        let outside: String = line.split('`').step_by(2).collect();
        (!is_code && !is_fence).then_some((place + 1, outside))
    })
}

/// The names by which a document's headings can be linked to.
fn anchors(text: &str) -> HashSet<String> {
    let mut is_code = false;
    let headings = text.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    });
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// A path without its `..`, which need not be there to be gone through.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

/// What is wrong with a link, if anything is.
fn fault(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let beside = document.parent().expect("a directory").join(file);
    let path = if file.is_empty() { document.to_owned() } else { plain(&beside) };
    if !path.starts_with(root()) || !path.exists() {
        return Some("there is no such file".into());
    }
    if anchor.is_empty() || path.extension().is_none_or(|extension| extension != "md") {
        return None;
    }
    let text = fs::read_to_string(&path).expect("a document");
    (!anchors(&text).contains(anchor)).then(|| "there is no such heading".into())
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let (mut offences, mut count) = (Vec::new(), 0);
    for path in files("md") {
        let text = fs::read_to_string(&path).expect("UTF-8");
        for (line, prose) in prose(&text) {
            for (at, _) in prose.match_indices("](") {
                let rest = &prose[at + 2..];
                let target = &rest[..rest.find(')').expect("a link ends on its line")];
                count += 1;
                if let Some(fault) = fault(&path, target) {
                    offences.push(format!("{}:{line}: {target}: {fault}", path.display()));
                }
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// A table ends at the first line that is not a row: a row after it is shown as text.
#[test]
fn every_row_of_a_table_stands_in_one() {
    let mut offences = Vec::new();
    for path in files("md") {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let (mut is_code, mut above) = (false, "");
        for (place, line) in text.lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            let next = text.lines().nth(place + 1).unwrap_or_default();
            let is_row = |line: &str| line.trim_start().starts_with('|');
            if !is_code && is_row(line) && !is_row(above) && !next.contains("---") {
                offences.push(format!("{}:{}: a row of no table", path.display(), place + 1));
            }
            if !is_code && is_row(above) && line.starts_with('#') {
                offences.push(format!("{}:{}: no line between", path.display(), place + 1));
            }
            above = line;
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// A document that says which test shows something names one that is there.
#[test]
fn figures_that_are_taken_from_the_benchmarks_are_those() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("UTF-8");
    let (benchmarks, operations) = (read("docs/benchmarks.md"), read("docs/operations/launch.md"));
    for workload in ["550 mix, 1,000, 20 + 20", "550 mix, 1,000, keyed"] {
        let row = format!("| {workload} | js5d | ");
        let row = benchmarks.lines().find_map(|line| line.strip_prefix(&row)).expect(workload);
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (ns, mb) = (cells[0], cells[3]);
        let mb = format!("{},{}", &mb[..mb.len() - 3], &mb[mb.len() - 3..]);
        let expected = format!("| {ns} ns; {mb} MB");
        let line = operations.lines().find(|line| line.contains(&format!("\"{workload}\"")));
        let line =
            line.unwrap_or_else(|| panic!("docs/operations/launch.md has no \"{workload}\""));
        assert!(line.contains(&expected), "{expected}: {line}");
    }
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let sources: String =
        files("rs").iter().map(|path| fs::read_to_string(path).expect("UTF-8")).collect();
    let (mut offences, mut count) = (Vec::new(), 0);
    for path in files("md") {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        // A sentence; names of settings and metrics are shorter, or begin with the program's.
        let is_test = |span: &&str| {
            span.chars().all(is_word)
                && span.matches('_').count() >= 5
                && !span.starts_with("js5d_")
        };
        for name in spans.filter(is_test) {
            count += 1;
            if !sources.contains(name) {
                offences.push(format!("{}: there is no {name}", path.display()));
            }
        }
    }
    assert!(count > 0, "no name was found");
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// The book is made of the pages that the summary names; a page that is not there is found by
/// nobody.
#[test]
fn every_page_of_the_manual_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("UTF-8");
    let pages = files("md").into_iter().filter_map(|path| {
        let page = path.strip_prefix(root().join("docs")).ok()?.to_str()?.to_owned();
        (page != "SUMMARY.md").then_some(page)
    });
    let missing: Vec<_> = pages.filter(|page| !summary.contains(&format!("]({page})"))).collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

/// `module::function`, `Type::function`, `Enum::Variant` or a type: each part is declared, and the
/// last one in a file that has the one before it in its code or in its name.
#[test]
fn pictures_name_what_is_in_the_code() {
    let sources: Vec<_> = files("rs")
        .into_iter()
        .filter(|path| path.starts_with(root().join("src")))
        .map(|path| (fs::read_to_string(&path).expect("UTF-8"), path))
        .collect();
    let declares = |text: &str, name: &str| {
        let words = ["fn ", "struct ", "enum ", "trait "].map(|kind| format!("{kind}{name}"));
        let is_end = |c: char| !c.is_alphanumeric() && c != '_';
        let declared = words.iter().any(|word| {
            text.match_indices(word.as_str())
                .any(|(at, _)| text[at + word.len()..].starts_with(is_end))
        });
        declared || text.lines().any(|line| line.trim() == format!("{name},"))
    };
    let mut count = 0;
    for picture in ["request.svg", "process.svg"] {
        let path = root().join("docs/images").join(picture);
        let text = fs::read_to_string(path).expect("a picture");
        for label in text.split("<text class=\"code\"").skip(1) {
            let name = label.split(['>', '<']).nth(1).expect("a name");
            let (owner, last) = name.split_once("::").unwrap_or(("", name));
            let is_there = sources.iter().any(|(text, path)| {
                let is_module = path.file_stem().is_some_and(|stem| stem == owner)
                    || path.parent().is_some_and(|dir| dir.ends_with(owner));
                declares(text, last) && (owner.is_empty() || is_module || declares(text, owner))
            });
            assert!(is_there, "{picture}: there is no {name}");
            count += 1;
        }
    }
    assert!(count >= 30, "only {count} names were found");
}
