//! Settings: where a value comes from, what is printed, and that the documents keep in step.

use crate::support::{Ended, Server, js5d, js5d_with};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A settings file, in a directory of its own.
fn settings_file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("js5d.toml");
    fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("a plain path").to_owned();
    (dir, path)
}

/// What `js5d config --json` prints.
fn settings(variables: &[(&str, &str)], options: &[&str]) -> Value {
    let ended = js5d_with(variables, &[&["config", "--json"], options].concat());
    assert_eq!(ended.code, Some(0), "{variables:?} {options:?}: {ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn docs(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(path).expect("a document")
}

#[test]
fn an_option_beats_a_variable_beats_the_file_beats_the_default() {
    let (_dir, file) = settings_file("\n\nqueue_len_max = 30\n");
    let variable = ("JS5D_QUEUE_LEN_MAX", "40");
    let check = |variables: &[(&str, &str)], options: &[&str], value: u32, origin: Value| {
        let found = settings(variables, options);
        assert_eq!(found["queue_len_max"], json!({ "value": value, "origin": origin }));
        assert_eq!(found["backlog"]["origin"], json!({ "kind": "default" }), "nothing else");
    };
    check(&[], &[], 200, json!({ "kind": "default" }));
    let from_file = json!({ "kind": "file", "file": file, "line": 3 });
    check(&[], &["--config", &file], 30, from_file.clone());
    check(&[("JS5D_CONFIG", &file)], &[], 30, from_file.clone());
    check(&[("JS5D_CONFIG", "/nowhere")], &["--config", &file], 30, from_file);
    let from_variable = json!({ "kind": "variable", "variable": "JS5D_QUEUE_LEN_MAX" });
    check(&[variable], &["--config", &file], 40, from_variable);
    let from_flag = json!({ "kind": "flag", "flag": "--queue-len-max" });
    check(&[variable], &["--config", &file, "--queue-len-max", "50"], 50, from_flag);
}

#[test]
fn a_flag_can_be_set_and_taken_back_by_every_layer() {
    let (_dir, on) = settings_file("skip_corrupt = true");
    let (_dir, off) = settings_file("skip_corrupt = false");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], bool);
    let cases: &[Case<'_>] = &[
        (&[], &["--config", &on], true),
        (&[], &["--config", &off], false),
        (&[("JS5D_SKIP_CORRUPT", "false")], &["--config", &on], false),
        (&[("JS5D_SKIP_CORRUPT", "0")], &["--config", &on], false),
        (&[("JS5D_SKIP_CORRUPT", "1")], &["--config", &off], true),
        (&[("JS5D_SKIP_CORRUPT", "true")], &["--skip-corrupt=false"], false),
        (&[("JS5D_SKIP_CORRUPT", "false")], &["--skip-corrupt"], true),
        (&[], &["--config", &on, "--skip-corrupt=false"], false),
    ];
    for (variables, options, value) in cases {
        let found = settings(variables, options);
        assert_eq!(found["skip_corrupt"]["value"], *value, "{variables:?} {options:?}");
    }
}

#[test]
fn a_stronger_list_replaces_a_weaker_one() {
    let text = "listen = ['127.0.0.1:1', '127.0.0.1:2']\nbuild = 0x226\nconnections_max = 1_000";
    let (_dir, file) = settings_file(text);
    let of_file = settings(&[], &["--config", &file]);
    assert_eq!(of_file["listen"]["value"], json!(["127.0.0.1:1", "127.0.0.1:2"]));
    assert_eq!(of_file["build"]["value"], json!([550]), "one value needs no brackets");
    assert_eq!(of_file["connections_max"]["value"], 1000);
    let variable = [("JS5D_LISTEN", "127.0.0.1:3, [::1]:4"), ("JS5D_BUILD", "any")];
    let of_variable = settings(&variable, &["--config", &file]);
    assert_eq!(of_variable["listen"]["value"], json!(["127.0.0.1:3", "[::1]:4"]));
    assert_eq!(of_variable["build"]["value"], json!(["any"]));
    let of_option = settings(&variable, &["--listen", "127.0.0.1:5", "--listen", "127.0.0.1:6"]);
    assert_eq!(of_option["listen"]["value"], json!(["127.0.0.1:5", "127.0.0.1:6"]));
}

/// A value that the setting takes and that is not its default, as an option would have it.
fn another_value(key: &str, default: &Value) -> String {
    let forms = [
        "true",
        "off",
        "on",
        "close",
        "require",
        "json",
        "epoll",
        "debug",
        "23",
        "7s",
        "7MB",
        "7MB/s",
        "127.0.0.1:7",
        "10.0.0.0/8",
        "9f3c51e07a2b6d44",
        "rs2-718.ints=0",
        "742=TOKEN",
        "/tmp",
    ];
    let flag = format!("--{}", key.replace('_', "-"));
    let is_other = |form: &&str| {
        let ended = js5d(&["config", "--json", &format!("{flag}={form}")]);
        ended.code == Some(0) && {
            let found: Value = serde_json::from_str(&ended.stdout).expect("JSON");
            found[key]["value"] != *default
        }
    };
    let form = forms.iter().copied().find(is_other);
    form.unwrap_or_else(|| panic!("no form is right for {flag}: add one")).to_owned()
}

#[test]
fn every_setting_can_come_from_every_layer() {
    let defaults = settings(&[], &[]);
    let defaults = defaults.as_object().expect("an object");
    assert!(defaults.len() >= 20, "{defaults:?}");
    for (key, default) in defaults {
        assert_eq!(default["origin"], json!({ "kind": "default" }));
        let text = another_value(key, &default["value"]);
        let flag = format!("--{}={text}", key.replace('_', "-"));
        let by_flag = settings(&[], &[&flag])[key].take();
        assert_eq!(by_flag["origin"]["kind"], "flag", "{key}");
        let variable = format!("JS5D_{}", key.to_uppercase());
        let by_variable = settings(&[(&variable, &text)], &[])[key].take();
        assert_eq!(by_variable["origin"]["variable"], variable, "{key}");
        assert_eq!(by_variable["value"], by_flag["value"], "{key}");
        let (_dir, file) = settings_file(&format!("{key} = {}\n", by_flag["value"]));
        let by_file = settings(&[], &["--config", &file])[key].take();
        assert_eq!(by_file["origin"]["line"], 1, "{key}");
        assert_eq!(by_file["value"], by_flag["value"], "{key}");
    }
}

#[test]
fn the_server_runs_with_what_file_and_variables_say() {
    let (_dir, file) = settings_file("log_format = 'json'\nlisten = '127.0.0.1:1'");
    let server = Server::start(&["serve", "--config", &file]);
    let line = server.log().lines().next().unwrap_or_default().to_owned();
    let line: Value = serde_json::from_str(&line).expect("JSON, as the file says");
    assert!(line["fields"]["message"].is_string());

    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().to_str().unwrap();
    assert_eq!(js5d(&["demo-cache", dir, "--groups", "300"]).code, Some(0));
    let ended = js5d_with(&[("JS5D_CACHE", dir)], &["check"]);
    assert_eq!(ended.code, Some(0), "check reads the same variables: {ended:?}");
    let (_dir, file) = settings_file(&format!("cache = {dir:?}\nworkers = 2"));
    let ended = js5d(&["check", "--config", &file]);
    assert_eq!(ended.code, Some(0), "and the same file: {ended:?}");
}

#[test]
fn the_list_of_settings_is_in_columns_with_origins() {
    let (_dir, file) = settings_file("# mine\nworkers = 3");
    let variables = [("JS5D_IDLE_TIMEOUT", "40s"), ("JS5D_PIN_WORKERS", "yes")];
    let ended = js5d_with(&variables, &["config", "--config", &file, "--backlog", "9"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let line = |key: &str| {
        let line = lines.iter().find(|line| line.split(' ').next() == Some(key));
        line.unwrap_or_else(|| panic!("no {key}: {ended:?}"))
    };
    let words = |key: &str| line(key).split_whitespace().collect::<Vec<_>>();
    assert_eq!(words("workers"), ["workers", "3", &format!("{file}:2")]);
    assert_eq!(words("idle_timeout"), ["idle_timeout", "40s", "JS5D_IDLE_TIMEOUT"]);
    assert_eq!(words("pin_workers"), ["pin_workers", "true", "JS5D_PIN_WORKERS"]);
    assert_eq!(words("backlog"), ["backlog", "9", "--backlog"]);
    assert_eq!(words("send_timeout"), ["send_timeout", "30s", "default"]);
    assert!(line("cache").contains("(a demo cache, made up in memory)"));
    let columns: BTreeSet<_> = ["default", &file, "JS5D_", "--backlog"]
        .into_iter()
        .map(|origin| format!("  {origin}"))
        .flat_map(|origin| lines.iter().filter_map(move |line| line.find(&origin)))
        .collect();
    assert_eq!(columns.len(), 1, "one column: {ended:?}");
}

#[test]
fn the_example_file_is_right_and_says_the_defaults() {
    let Ended { code, stdout: example, .. } = js5d(&["config", "--example"]);
    assert_eq!(code, Some(0));
    assert_eq!(example, docs("js5d.example.toml"), "run 'cargo xtask docs'");
    let defaults = settings(&[], &[]);
    let (_dir, file) = settings_file(&example);
    assert_eq!(settings(&[], &["--config", &file]), defaults, "it is all comments");

    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let plain = |line: &str| line[usize::from(is_setting(line))..].to_owned();
    let lines: Vec<_> = example.lines().map(plain).collect();
    let (_dir, file) = settings_file(&lines.join("\n"));
    let found = settings(&[], &["--config", &file]);
    for (key, default) in defaults.as_object().expect("an object") {
        let at = found[key]["origin"]["line"].as_u64().unwrap_or_else(|| panic!("no {key}"));
        let line = &lines[at as usize - 1];
        assert!(line.starts_with(&format!("{key} = ")), "{line}");
        let is_unset = lines[at as usize - 2].starts_with("# Not set by default");
        assert!(is_unset || found[key]["value"] == default["value"], "{line}");
    }
}

#[test]
fn the_documentation_of_settings_is_what_the_program_says() {
    let text = docs("settings.md");
    let begin = text.find("<!-- settings: begin").expect("a mark");
    let begin = begin + text[begin..].find('\n').expect("its end") + 1;
    let end = text.find("<!-- settings: end -->").expect("a mark");
    assert_eq!(&text[begin..end], js5d::settings::markdown(), "run 'cargo xtask docs'");

    // Not by the same code: the keys and defaults that the program itself prints.
    let table: Vec<_> = text[begin..end].lines().filter(|line| line.starts_with("| `--")).collect();
    let program = settings(&[], &[]);
    let program = program.as_object().expect("an object");
    assert_eq!(table.len(), program.len());
    for (key, setting) in program {
        let cell = format!("| `{key}` | `JS5D_{}` |", key.to_uppercase());
        let row = table.iter().find(|row| row.contains(&cell)).unwrap_or_else(|| panic!("{key}"));
        assert!(row.contains(&format!("`--{}", key.replace('_', "-"))), "{row}");
        if let Value::String(default) = &setting["value"] {
            assert!(row.contains(&format!("| `{default}` |")), "{row}");
        }
    }
}

#[test]
fn manual_and_completions_know_every_option() {
    let help = js5d(&["--help"]).stdout;
    let options: Vec<_> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .map(|word| word.split(['[', '=', ',']).next().unwrap_or(word))
        .collect();
    assert!(options.len() > 20, "{options:?}");
    let page = js5d(&["man"]);
    assert_eq!(page.code, Some(0), "{page:?}");
    let page = page.stdout.replace("\\-", "-");
    assert!(page.contains(".TH js5d 1") && page.contains(".SH NOTES"), "{page}");
    for option in &options {
        assert!(page.contains(option), "{option} is not in js5d(1)");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = js5d(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{script:?}");
        for option in options.iter().map(|option| option.trim_start_matches("--")) {
            assert!(script.stdout.contains(option), "{option} is not completed in {shell}");
        }
    }
}

#[test]
fn a_manual_page_is_written_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let ended = js5d(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let title = |page: &str| {
        let text = fs::read_to_string(pages.join(page)).expect("a page");
        assert!(text.contains(&format!(".TH {} 1", page.trim_end_matches(".1"))), "{text}");
    };
    let pages_wanted =
        ["js5d.1", "js5d-serve.1", "js5d-check.1", "js5d-config.1", "js5d-demo-cache.1"];
    pages_wanted.into_iter().for_each(title);
    let ended = js5d(&["man", "--dir", "/proc/nowhere"]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains("/proc/nowhere"), "{ended:?}");
}

#[test]
fn wrong_settings_do_not_keep_documents_from_being_printed() {
    let wrong = [("JS5D_NO_SUCH", "1"), ("JS5D_CONFIG", "/nowhere")];
    let commands: &[&[&str]] = &[&["config", "--example"], &["man"], &["completions", "bash"]];
    for arguments in commands {
        assert_eq!(js5d_with(&wrong, arguments).code, Some(0), "{arguments:?}");
    }
    assert_eq!(js5d_with(&wrong, &["--help"]).code, Some(0));
    assert!(!Path::new("/nowhere").exists());
}
