//! The status page in a real browser, under a load: do the numbers move?

use crate::support::{Cache, Client, Http, Server, eventually, id};
use js5d::protocol::Class;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<&'static str> {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    BROWSERS.into_iter().find(is_there)
}

/// The page as it stands after some polls: markup with what the script has put in.
fn dump(browser: &str, http: Http, width: u32) -> String {
    let profile = tempfile::tempdir().expect("a scratch directory");
    let output = Command::new("timeout")
        .args(["60", browser, "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-background-networking", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},1600"))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("http://{}/", http.0))
        .output()
        .expect("it is installed");
    let page = String::from_utf8(output.stdout).expect("text");
    assert!(page.contains("</html>"), "{}", String::from_utf8_lossy(&output.stderr));
    page
}

/// What stands in the element with this id.
fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\"")).expect("it is there");
    let (_, rest) = rest.split_once('>').expect("a tag");
    rest.split("</b>").next().unwrap_or(rest)
}

fn attribute(page: &str, name: &str) -> u64 {
    let (_, rest) = page.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name}"));
    rest.split('"').next().and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
#[ignore = "needs Chromium; .ci/deep runs it"]
fn the_status_page_shows_numbers_that_move() {
    let browser = browser().expect("Chromium is installed");
    let server = Server::with_cache(&Cache::sample(), &["--admin", "127.0.0.1:0"]);
    let http = Http::of(&server);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(&server, 0);
            while !stop.load(Ordering::Relaxed) {
                client.request((0..20).map(|group| (Class::Urgent, id(1, group))));
                client.request((0..5).map(|group| (Class::Prefetch, id(2, group))));
                client.receive_many(25);
            }
        });
        let looked = std::panic::catch_unwind(|| look(browser, http));
        stop.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn look(browser: &str, http: Http) {
    eventually("there is a curve", || {
        let rates = &http.status()["history"]["columns"]["js5d_responses_total.urgent"];
        rates.as_array().is_some_and(|rates| rates.len() >= 3)
    });
    let (first, second) = (dump(browser, http, 1280), dump(browser, http, 390));
    let (before, after) = (attribute(&first, "data-value"), attribute(&second, "data-value"));
    assert!(before > 0 && after > before, "{before}, then {after} responses");
    for page in [&first, &second] {
        let page = page.split("<script>").next().unwrap_or(page);
        assert!(attribute(page, "data-polls") >= 3, "it asks again");
        assert!(page.contains(">ready<"), "{}", element(page, "state"));
        for tile in ["t-responses", "t-bytes", "t-connections", "t-p99"] {
            let shown = element(page, tile);
            assert!(shown.starts_with(|c: char| ('1'..='9').contains(&c)), "{tile}: {shown}");
        }
        let curves = page.matches("stroke-width=\"1.6\"").count();
        assert!(curves >= 12, "{curves} curves");
        assert!(!page.contains("NaN") && !page.contains("undefined"), "{page}");
        assert!(page.contains("worker 0") && page.contains("descriptors"));
        assert!(!page.contains("class=\"stale\""));
    }
}
