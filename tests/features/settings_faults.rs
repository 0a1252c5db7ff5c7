//! Settings that are wrong: named with their place and the nearest right name, exit code 78.

use crate::support::{Ended, js5d, js5d_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// How a failure over settings ends.
const REMEDY: &str =
    "correct what is wrong; 'js5d config --example' prints every setting with its default";

/// Every command that reads settings must say exactly this of a file.
fn check(text: &[u8], expected: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("js5d.toml");
    fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("a plain path");
    for command in ["serve", "check", "config"] {
        let Ended { code, stderr, .. } = js5d(&[command, "--config", path]);
        let said: Vec<_> = stderr
            .lines()
            .filter(|line| line.contains(path))
            .map(|line| line.trim_start_matches("js5d:").trim().replace(path, "FILE"))
            .collect();
        assert_eq!(said, expected, "{command}: {stderr}");
        assert_eq!(code, Some(78), "{command}: {stderr}");
        assert!(stderr.lines().last().is_some_and(|line| line.starts_with("      ")), "{stderr}");
    }
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_right_one() {
    check(
        b"workers = 1\n  idle_timout = '30s'",
        &["FILE:2:3: 'idle_timout' is no setting; did you mean 'idle_timeout'?"],
    );
    check(
        b"idle-timeout = '1s'",
        &["FILE:1:1: 'idle-timeout' is no setting; did you mean 'idle_timeout'?"],
    );
    check(b"colour = 'red'", &["FILE:1:1: 'colour' is no setting"]);
    check(b"config = 'x'", &["FILE:1:1: a settings file cannot name another"]);
    check(
        b"\n[limits]\nidle_timeout = '30s'",
        &["FILE:2:2: 'limits' is a table, but settings are written without tables; \
         did you mean 'idle_timeout'?"],
    );
    check(
        b"log.level = 'info'",
        &["FILE:1:1: 'log' is a table, but settings are written without tables; \
         did you mean 'log_level'?"],
    );
}

#[test]
fn a_wrong_value_is_named_with_what_is_wanted() {
    let cases = [
        ("skip_corrupt = 'yes'", "16: skip_corrupt takes true or false, not a string"),
        ("pin_workers = 1", "15: pin_workers takes true or false, not an integer"),
        ("connections_max = [1]", "19: connections_max takes N, not a list"),
        ("idle_timeout = true", "16: idle_timeout takes TIME, not a boolean"),
        ("idle_timeout = 1979-05-27", "16: idle_timeout takes TIME, not a date"),
        ("build = [[550]]", "10: build takes BUILDS, not a list"),
        ("listen = []", "10: listen needs at least one ADDR:PORT"),
        ("cache = ''", "9: cache = '': it is empty; PATH is wanted"),
        ("queue_len_max = 19", "17: queue_len_max = 19: at least 20 is wanted"),
        ("queue_len_max = 2.5", "17: queue_len_max = 2.5: a whole number is wanted"),
        ("workers = 2_000", "11: workers = 2_000: a whole number from 1 to 1024 is wanted"),
        (
            "idle_timeout = 30",
            "16: idle_timeout = 30: 30 lacks its unit; write it as 500ms, 30s or 2m",
        ),
        (
            "idle_timeout = '1ms'",
            "16: idle_timeout = '1ms': deadlines are checked every 100ms; a shorter one is not \
             possible",
        ),
        (
            "missing_group = 'ignor'",
            "17: missing_group = 'ignor': ignore or close is wanted; did you mean 'ignore'?",
        ),
        (
            "log_level = 'inof'",
            "13: log_level = 'inof': 'inof' is no level; use error, warn, info, debug, trace, \
             or a filter such as 'js5d::net=debug'",
        ),
        (
            r#"missing_group = "\u001b[2J""#,
            r#"17: missing_group = "\u001b[2J": ignore or close is wanted"#,
        ),
        (
            "idle_timeout = \"\"\"\n30\n\"\"\"",
            "16: idle_timeout = \"\"\"\\n30\\n\"\"\": \
             time unit needed, for example 30sec or 30ms; write it as 500ms, 30s or 2m",
        ),
        (
            "build = [550, 'all']",
            "15: build = 'all': 'all' is no build: write 550, 1..=399, 530,634, 'oldschool', \
             'nxt', or 'any'",
        ),
    ];
    for (text, expected) in cases {
        check(text.as_bytes(), &[&format!("FILE:1:{expected}")]);
    }
}

#[test]
fn what_is_no_toml_is_named_with_its_place() {
    check(b"workers = 1\nlisten = [\n", &["FILE:2:11: unclosed array, expected `]`"]);
    check(b"workers = 1\nworkers = 2", &["FILE:2:1: duplicate key"]);
    check(b"workers = 1\n# \xff", &["FILE:2: not UTF-8"]);
    check(
        "cache = 'ö' 'x'".as_bytes(),
        &["FILE:1:13: unexpected key or value, expected newline, `#`"],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("js5d.toml");
    fs::write(&path, "wrkers = 1\nbuild = ['x', 'y']\n").unwrap();
    let path = path.to_str().unwrap();
    let variables = [("JS5D_WORKERS", "0"), ("JS5D_IDLE_TIMOUT", "1s"), ("JS5D_CACHE", "")];
    let ended = js5d_with(&variables, &["config", "--config", path, "--workers", "1"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let expected = format!(
        "js5d: 6 settings are wrong\n\
         \x20 {path}:1:1: 'wrkers' is no setting; did you mean 'workers'?\n\
         \x20 {path}:2:10: build = 'x': 'x' is no build: write 550, 1..=399, 530,634, \
         'oldschool', 'nxt', or 'any'\n\
         \x20 {path}:2:15: build = 'y': 'y' is no build: write 550, 1..=399, 530,634, \
         'oldschool', 'nxt', or 'any'\n\
         \x20 JS5D_CACHE: it is empty; PATH is wanted, or unset the variable\n\
         \x20 JS5D_IDLE_TIMOUT: it is no setting; did you mean 'JS5D_IDLE_TIMEOUT'?\n\
         \x20 JS5D_WORKERS=0: a whole number from 1 to 1024 is wanted\n\
         \x20     {REMEDY}\n"
    );
    assert_eq!(ended.stderr, expected);
}

#[test]
fn variables_that_kubernetes_makes_up_are_passed_over() {
    let made_up = [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_JS5",
        "PORT",
        "PORT_43594_TCP",
        "PORT_43594_TCP_PROTO",
        "PORT_43594_TCP_PORT",
        "PORT_43594_TCP_ADDR",
    ];
    for name in made_up {
        let ended = js5d_with(&[(&format!("JS5D_{name}"), "tcp://10.0.0.1:43594")], &["config"]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
    }
    for name in ["SERVICE", "PORTS", "PORT_X", "HOST"] {
        let ended = js5d_with(&[(&format!("JS5D_{name}"), "1")], &["config"]);
        assert_eq!(ended.code, Some(78), "{name}: {ended:?}");
    }
}

#[test]
fn a_settings_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere.toml");
    let endless = "/dev/zero".as_ref();
    for path in [&nowhere, dir.path(), endless] {
        let path = path.to_str().unwrap();
        let ended = js5d(&["--config", path]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(path), "{ended:?}");
        assert!(ended.stderr.lines().count() >= 2, "cause and remedy: {ended:?}");
    }
    let secret = dir.path().join("secret.toml");
    fs::write(&secret, "workers = 1").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if fs::read(&secret).is_err() {
        let ended = js5d(&["--config", secret.to_str().unwrap()]);
        assert_eq!(ended.code, Some(77), "{ended:?}");
    }
    let ended = js5d_with(&[("JS5D_CONFIG", "")], &["config"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("JS5D_CONFIG: it is empty"), "{ended:?}");
}

#[test]
fn settings_that_do_not_go_together_are_shown_with_their_origin() {
    let variables = [("JS5D_LISTEN", "127.0.0.1:1,127.0.0.1:1")];
    for arguments in [&["config", "--check"][..], &["serve"]] {
        let ended = js5d_with(&variables, arguments);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        let expected = "js5d: --listen 127.0.0.1:1 is given twice\n      \
                        give each address once\n      \
                        --listen comes from JS5D_LISTEN\n";
        assert_eq!(ended.stderr, expected, "{arguments:?}");
    }
    let ended = js5d_with(&variables[..0], &["--listen=127.0.0.1:1", "--admin=0.0.0.0:1"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let expected = "js5d: --listen 127.0.0.1:1 and --admin 0.0.0.0:1 want the same port\n";
    assert!(ended.stderr.starts_with(expected), "{ended:?}");
    let ended = js5d_with(&[("JS5D_WORKERS", "1")], &["config", "--check"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("the settings are right; 1 of "), "{ended:?}");
}
