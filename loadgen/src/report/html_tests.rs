//! What the page promises.

use super::*;
use crate::comparison::{Kind, Row, RowUnit};
use crate::report::sample;
use crate::result::{Found, Step};
use crate::stats::FaultKind;

/// Elements that HTML closes by itself.
const VOID: [&str; 1] = ["meta"];

/// Checks that tags nest, that attributes are quoted and that text holds no bare `<`; returns
/// the names of all elements. Slow and simple on purpose, and blind to the style sheet.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut names) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag that ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "</{name}> closes something else");
            continue;
        }
        let name = tag.split_whitespace().next().expect("a name").to_owned();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}> is no element");
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}> has an open quote");
        names.push(name.clone());
        if name == "style" {
            rest = &rest[rest.find("</style>").expect("the end of the style")..];
        }
        if !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    names
}

/// With something of everything that a page can show.
fn full() -> Judged {
    let mut result = sample::result();
    let what = "2/7: <script>alert(1)</script> & \"more\"".to_owned();
    let detail =
        crate::stats::FaultDetail { kind: FaultKind::WrongBytes, at_ms: 7, connection: 3, what };
    result.stats.faults.insert(FaultKind::WrongBytes, 1);
    result.stats.fault_details.push(detail);
    result.stats.stalls = 1;
    result.stats.stall_details.push(crate::stats::StallDetail {
        connection: 9,
        since_ms: 12_000,
        lasted_ms: 5000,
        bytes: 519,
        outstanding: "urgent 2/7, 3 more".to_owned(),
    });
    let step = |offered_per_s, p99_us, holds, why: &str| Step {
        offered_per_s,
        achieved_per_s: offered_per_s * 0.999,
        p99_us,
        holds,
        is_valid: true,
        why: why.to_owned(),
    };
    result.steps = vec![
        step(64_000.0, 1800.0, true, ""),
        step(512_000.0, 93_000.0, false, "missed urgent.response.p99<20ms"),
        step(256_000.0, 9100.0, true, ""),
    ];
    let pairs = |ratio: f64| -> Vec<(f64, f64)> {
        (0..10).map(f64::from).map(|i| (80.0 + i, (80.0 + i) * ratio + i % 3.0)).collect()
    };
    result.found = Some(Found { rate_per_s: 256e3, low_per_s: 255e3, high_per_s: Some(512e3) });
    let rows = vec![
        Row::of("responses", RowUnit::PerS, &pairs(1.2)),
        Row::of("urgent.service.p99", RowUnit::Us, &pairs(0.99)),
        Row::of("cpu a response", RowUnit::CpuNs, &pairs(2.5)),
    ];
    let (a, b) = ("127.0.0.1:43594".to_owned(), "127.0.0.1:43595".to_owned());
    let pairs = vec![Pair { a, b, rows }];
    result.comparison = Some(Comparison { kind: Kind::Servers, pairs, ..Comparison::default() });
    Judged::of(result, &["connect.p99<1us".parse().unwrap()])
}

#[test]
fn the_page_is_well_formed_and_refers_to_nothing_outside() {
    let page = page(&full());
    let names = elements(&page);
    for forbidden in ["script", "link", "img", "iframe", "object", "a", "image", "use"] {
        assert!(!names.iter().any(|name| name == forbidden), "<{forbidden}>");
    }
    for reference in ["http:", "https:", "url(", "@import", " src=", " href=", "//"] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.contains("between 255,000/s and 512,000/s"), "what was found, as an interval");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp;"));
    assert!(names.iter().filter(|name| *name == "svg").count() >= 16, "plots, for two widths each");
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

/// Nothing was measured: no plot and no row is shown, and no rate is divided by no time.
#[test]
fn a_page_of_a_result_without_anything_shows_zeros_and_no_plots() {
    let page = page(&Judged::of(RunResult::default(), &[]));
    let names = elements(&page);
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!([count("svg"), count("td"), count("h2")], [0, 0, 3], "{names:?}");
    for card in ["<b>0.00/s</b>", "<b>0.00 B/s</b>", "no wrong answers"] {
        assert!(page.contains(card), "{card}");
    }
    let figures = &page[page.find("<body>").expect("a body")..];
    assert!(!figures.contains("NaN") && !figures.contains("inf"), "{figures}");
}
