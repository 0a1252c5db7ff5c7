//! What stands in deploy/ fits the program: options, settings, exit codes and ports are those that
//! it has, and each limit outside is longer than the one of js5d that it must outlast.
//!
//! Files are read as text, which is all that is needed of units and manifests. Whether they are
//! sound in the eyes of those that use them is asked by deploy/check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PORT: &str = "43594";
const ADMIN_PORT: &str = "9550";
const COMPOSE: &str = "deploy/compose/compose.yaml";
const DEPLOYMENT: &str = "deploy/kubernetes/deployment.yaml";
const IN_A_CLUSTER: &str = "deploy/kubernetes/js5d.toml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn js5d(args: &[&str]) -> Output {
    let mut js5d = Command::new(env!("CARGO_BIN_EXE_js5d"));
    js5d.args(args).output().expect("js5d starts")
}

/// The options that a command's help lists.
fn options_of(command: &str) -> BTreeSet<String> {
    let output = js5d(&[command, "--help"]);
    let help = String::from_utf8(output.stdout).expect("text");
    words_with_dashes(&help)
}

/// Every `--option` in a text.
fn words_with_dashes(text: &str) -> BTreeSet<String> {
    let is_inside = |c: char| c.is_ascii_lowercase() || c == '-';
    let starts = text
        .match_indices("--")
        .filter(|(at, _)| !text[..*at].chars().next_back().is_some_and(is_inside));
    let words = starts.map(|(at, _)| {
        let word: String = text[at..].chars().take_while(|&c| is_inside(c)).collect();
        word.trim_end_matches('-').to_owned()
    });
    words.filter(|word| word.len() > 3).collect()
}

/// The lines of a text that have a word, each to its end.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter(move |line| line.contains(word))
}

/// The number behind the only `key`, as in `TimeoutStopSec=45s`.
#[track_caller]
fn number(file: &str, key: &str) -> u64 {
    let text = read(file);
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(key))
        .map(|rest| rest.trim_matches(|c: char| !c.is_ascii_digit()).to_owned())
        .collect();
    assert_eq!(found.len(), 1, "{file}: {key}: {found:?}");
    found[0].parse().unwrap_or_else(|_| panic!("{file}: {key}{} is no number", found[0]))
}

/// A setting of a file of ours, else its default.
fn seconds(config: &str, setting: &str) -> u64 {
    let path = root().join(config);
    let output = js5d(&["config", "--json", "--config", path.to_str().expect("a plain path")]);
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let value = settings[setting]["value"].as_str().expect("a time").to_owned();
    humantime::parse_duration(&value).expect("a time").as_secs()
}

fn default_drain() -> u64 {
    seconds("/dev/null", "drain_timeout")
}

/// All files of deploy/, relative to it.
fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut places = vec![PathBuf::from("deploy")];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(root().join(&place)).expect("a directory") {
            let entry = entry.expect("readable");
            let path = place.join(entry.file_name());
            if entry.path().is_dir() {
                places.push(path);
            } else {
                let name = path.strip_prefix("deploy").expect("inside").to_str().expect("plain");
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_option_that_is_used_is_there() {
    let serve = options_of("serve");
    assert!(serve.len() > 25, "{serve:?}");
    let fleet = read("deploy/fleet/run");
    let begin = fleet.find("\nstart() {").expect("how the fleet starts a server");
    let started = &fleet[begin..begin + fleet[begin..].find("\n}").expect("its end")];
    let haproxy = read("deploy/haproxy/haproxy.cfg");
    let head = &haproxy[..haproxy.find("\nglobal").expect("a section")];
    let container = read("deploy/container/Containerfile");
    let deployment = read("deploy/kubernetes/deployment.yaml");
    let unit = read("deploy/systemd/js5d.service");
    let joined = |text: &str, word: &str| lines_with(text, word).collect::<Vec<_>>().join("\n");
    let used = [
        ("js5d.service", joined(&unit, "ExecStart=")),
        ("Containerfile", joined(&container, "CMD [\"serve\"")),
        ("deployment.yaml", joined(&deployment, "args:")),
        ("fleet/run", started.to_owned()),
        ("haproxy.cfg", head.to_owned()),
        ("compose.yaml", joined(&read(COMPOSE), "- --")),
    ];
    for (place, text) in used {
        let words = words_with_dashes(&text);
        assert!(!words.is_empty(), "{place}: {text}");
        for word in words {
            assert!(serve.contains(&word), "{place}: {word}: is it there?");
        }
    }
}

#[test]
fn settings_files_are_right() {
    for name in ["deploy/debian/js5d.toml", "deploy/kubernetes/js5d.toml"] {
        let path = root().join(name);
        let output = js5d(&["config", "--check", "--config", path.to_str().expect("plain")]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // What is commented out is there to be used.
        let text = read(name);
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
            .zip(text.lines())
            .map(|(offered, line)| format!("{}\n", offered.unwrap_or(line)))
            .collect();
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("all.toml");
        fs::write(&file, uncommented).expect("a file");
        let output = js5d(&["config", "--json", "--config", file.to_str().expect("plain")]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn all_speak_of_the_same_ports() {
    let help = |command| String::from_utf8(js5d(&[command, "--help"]).stdout).expect("text");
    assert!(help("serve").contains(&format!("0.0.0.0:{PORT}")));
    assert!(help("status").contains(&format!("127.0.0.1:{ADMIN_PORT}")));
    let has = |file: &str, words: &[&str]| {
        let text = read(file);
        for word in words {
            assert!(text.contains(word), "{file}: {word} is missing");
        }
    };
    has("deploy/systemd/js5d.socket", &["ListenStream=0.0.0.0:43594", "ListenStream=[::]:43594"]);
    has("deploy/debian/js5d.toml", &["admin = [\"127.0.0.1:9550\"]"]);
    has(IN_A_CLUSTER, &["admin = [\"0.0.0.0:9550\"]"]);
    has("deploy/container/Containerfile", &["EXPOSE 43594\n", "\"127.0.0.1:9550\""]);
    has(DEPLOYMENT, &["containerPort: 43594", "containerPort: 9550"]);
    has(COMPOSE, &[":-43594}:43594\"", "--admin=127.0.0.1:9550\n"]);
    has("deploy/kubernetes/service.yaml", &["port: 43594\n", "targetPort: js5\n"]);
    has("deploy/kubernetes/networkpolicy.yaml", &["port: 43594\n", "port: 9550\n"]);
    let servers = ["bind :43594\n", "10.0.0.11:43594\n", "10.0.0.12:43594\n", "check port 9550 "];
    has("deploy/haproxy/haproxy.cfg", &servers);
    has("deploy/prometheus/js5d.rules.yml", &["targets: [\"127.0.0.1:9550\"]"]);
}

#[test]
fn whoever_stops_js5d_waits_for_its_drain() {
    // The package's own value, and the default, which other settings files leave.
    let unit = "deploy/systemd/js5d.service";
    let drain = seconds("deploy/debian/js5d.toml", "drain_timeout").max(default_drain());
    assert!(number(unit, "TimeoutStopSec=") >= drain + 10);
    assert!(number("deploy/container/Containerfile", "#   docker stop --time ") >= drain + 10);
    let grace = number(COMPOSE, "stop_grace_period:");
    assert!(grace >= default_drain() + 10);
    assert!(grace >= number(COMPOSE, "- --game-drain-timeout=") + 10);
    let drain = seconds(IN_A_CLUSTER, "drain_timeout");
    let pause = number(DEPLOYMENT, "seconds:");
    assert!(number(DEPLOYMENT, "terminationGracePeriodSeconds:") >= drain + pause + 10);
}

/// What stands behind the only `key` of a manifest's probe.
fn probe(name: &str, key: &str) -> String {
    let manifest = read(DEPLOYMENT);
    let (_, probe) = manifest.split_once(&format!("{name}:\n")).expect("the probe");
    // Up to what follows it at its own depth or above, which is ten spaces.
    let body = probe.lines().take_while(|line| line.starts_with("            "));
    let found: Vec<_> = body.filter_map(|line| line.trim().strip_prefix(key)).collect();
    assert_eq!(found.len(), 1, "{name}: {key}");
    found[0].trim().to_owned()
}

#[test]
fn one_late_answer_takes_no_pod_out() {
    let number = |name, key| probe(name, key).parse::<u64>().expect("a number");
    for name in ["readinessProbe", "livenessProbe"] {
        assert!(number(name, "failureThreshold:") >= 3, "{name}");
        let (period, timeout) = (number(name, "periodSeconds:"), number(name, "timeoutSeconds:"));
        // A scrape and a status page of the same server have taken less in every measurement; the
        // default of one second is less than what a busy node may stall for.
        assert!(timeout >= 2 && timeout <= period, "{name}");
    }
    // Asked for /readyz, a pod with another generation than the expected one would be restarted.
    assert_eq!(probe("startupProbe", "path:"), "/livez");
    assert_eq!(probe("livenessProbe", "path:"), "/livez");
    assert_eq!(probe("readinessProbe", "path:"), "/readyz");
}

/// What `js5d check` computes for a small cache with the settings of a cluster.
fn memory_in_a_cluster() -> serde_json::Value {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("cache");
    let cache = cache.to_str().expect("a plain path");
    assert!(js5d(&["demo-cache", cache, "--groups", "300"]).status.success());
    let config = root().join(IN_A_CLUSTER);
    let config = config.to_str().expect("a plain path");
    let output = js5d(&["check", "--json", "--cache", cache, "--config", config]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the sample does not pass 'js5d check': {said}");
    let mut checked: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    checked["memory"].take()
}

#[test]
fn a_pod_with_a_whole_cache_stays_within_its_memory() {
    let memory = memory_in_a_cluster();
    let parts = memory["parts"].as_array().expect("parts");
    let part = |name: &str, key: &str| {
        let part = parts.iter().find(|part| part["name"] == name).expect("a part");
        part[key].as_u64().expect("a number")
    };
    let generation = 78_212_456; // A whole build 550 cache, by 'js5d check'.
    let generations = part("generations", "count");
    let small = generations * part("generations", "bytes_each");
    // What is set, which this machine's limit of descriptors may clamp.
    let peers = number(IN_A_CLUSTER, "connections_max = ");
    let clamped = peers - part("peers that read nothing", "count");
    let clamped = clamped * part("peers that read nothing", "bytes_each");
    // Loading takes 170 bytes a group (docs/limits.md).
    let total = memory["worst_case_bytes"].as_u64().expect("a number");
    let total = total - small + clamped + generations * generation + 170 * 71_274;
    let max = memory["bound_bytes"].as_u64().expect("a number");
    assert!(memory["bound_by"] == "memory-max" && total <= max, "{total} of {max}");
    // What the kernel buffers for sockets counts for the pod: 32 KB unsent (docs/limits.md), and as
    // much again and more on the line.
    let manifest = read(DEPLOYMENT);
    let (_, limits) = manifest.split_once("limits:\n").expect("limits");
    let limit = limits.trim_start().strip_prefix("memory: ").expect("a limit of memory");
    let mebibytes: u64 =
        limit.lines().next().and_then(|it| it.strip_suffix("Mi")?.parse().ok()).expect("mebibytes");
    assert!(mebibytes << 20 >= max + peers * 96 * 1024, "{mebibytes} MiB");
}

#[test]
fn pods_of_several_nodes_can_mount_the_cache() {
    let claim = read("deploy/kubernetes/cache.yaml");
    assert!(claim.contains("\n  accessModes: [\"ReadOnlyMany\"]\n"));
    let name = lines_with(&claim, "  name: ").next().and_then(|line| line.split(": ").nth(1));
    let name = name.expect("the claim's name");
    assert!(read(DEPLOYMENT).contains(&format!("claimName: {name}\n")));
}

#[test]
fn the_container_is_built_by_the_toolchain_of_the_gate() {
    let pinned: toml::Table = toml::from_str(&read("rust-toolchain.toml")).expect("TOML");
    let channel = pinned["toolchain"]["channel"].as_str().expect("a version");
    let container = read("deploy/container/Containerfile");
    assert!(container.contains(&format!("\nFROM docker.io/library/rust:{channel}-bookworm AS ")));
}

#[test]
fn the_package_applies_no_setting_of_the_kernel() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("assets");
    let sysctl = assets.iter().find(|it| it[0].as_str().is_some_and(|it| it.contains("sysctl")));
    let place = sysctl.expect("the file is in the package")[1].as_str().expect("a path");
    assert_eq!(place, "usr/share/doc/js5d/examples/");
    let postinst = read("deploy/debian/postinst");
    let said = lines_with(&postinst, "js5d: ").collect::<Vec<_>>().join("\n");
    assert!(said.contains("/usr/share/doc/js5d/examples/50-js5d.conf"), "{said}");
    let done = postinst.lines().filter(|line| !line.starts_with("js5d:"));
    assert!(!done.into_iter().any(|line| line.contains("sysctl")), "{postinst}");
}

#[test]
fn a_balancer_is_more_patient_than_js5d() {
    let file = "deploy/haproxy/haproxy.cfg";
    let config = "deploy/debian/js5d.toml";
    let own = ["idle_timeout", "send_timeout", "handshake_timeout"];
    let longest = own.map(|setting| seconds(config, setting)).into_iter().max().expect("some");
    for timeout in ["timeout tunnel", "timeout server ", "timeout server-fin"] {
        assert!(number(file, timeout) >= longest + 10, "{timeout}");
    }
}

#[test]
fn a_start_that_must_fail_again_is_not_tried_again() {
    let unit = read("deploy/systemd/js5d.service");
    let line = lines_with(&unit, "RestartPreventExitStatus=").next().expect("a line");
    let given: Vec<_> = line.split('=').nth(1).expect("a value").split(' ').collect();
    // The table of docs/exit-codes.md, but for success, signals, and what may pass by itself.
    let page = read("docs/exit-codes.md");
    let table: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|code| code.chars().all(|c| c.is_ascii_digit()))
        .filter(|code| !["0", "71"].contains(code))
        .collect();
    assert_eq!(given, table);
}

#[test]
fn the_ring_is_allowed() {
    let profile: serde_json::Value =
        serde_json::from_str(&read("deploy/container/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let groups = profile["syscalls"].as_array().expect("groups");
    let names: Vec<_> = groups
        .iter()
        .inspect(|group| assert_eq!(group["action"], "SCMP_ACT_ALLOW"))
        .flat_map(|group| group["names"].as_array().expect("names"))
        .map(|name| name.as_str().expect("a name"))
        .collect();
    let unit = read("deploy/systemd/js5d.service");
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(names.contains(&call), "{call}");
        assert!(unit.contains(call), "{call}");
    }
    let once: BTreeSet<_> = names.iter().collect();
    assert_eq!(once.len(), names.len(), "each is named once");
    for dangerous in ["ptrace", "mount", "bpf", "init_module", "keyctl", "unshare", "setns"] {
        assert!(!names.contains(&dangerous), "{dangerous}");
    }
}

#[test]
fn the_game_threads_priority_is_allowed_and_no_more() {
    let profile: serde_json::Value =
        serde_json::from_str(&read("deploy/container/seccomp.json")).expect("JSON");
    let groups = profile["syscalls"].as_array().expect("groups");
    let name = serde_json::json!(["sched_setscheduler"]);
    let group = groups.iter().find(|group| group["names"] == name).expect("a group of its own");
    // SCHED_RR and SCHED_RESET_ON_FORK, as sched.h numbers them.
    let policy = serde_json::json!([{ "index": 1, "value": 2 | 0x4000_0000, "op": "SCMP_CMP_EQ" }]);
    assert_eq!(group["args"], policy);
    let drop_in = read("deploy/systemd/game.conf");
    let lines: Vec<_> = drop_in.lines().filter(|line| !line.starts_with('#')).collect();
    let allowed = ["LimitRTPRIO=1", "RestrictRealtime=no", "SystemCallFilter=sched_setscheduler"];
    assert_eq!(lines, [&["[Service]"][..], &allowed].concat());
    let unit = read("deploy/systemd/js5d.service");
    assert!(!unit.contains("LimitRTPRIO=") && unit.contains("\nRestrictRealtime=yes\n"));
}

#[test]
fn the_package_takes_files_that_are_there() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().expect("assets") {
        let source = asset[0].as_str().expect("a path");
        if !source.starts_with("target/") {
            assert!(root().join(source).is_file(), "{source}");
        }
    }
    let targets: Vec<_> = deb["assets"].as_array().expect("assets").iter().collect();
    for file in deb["conf-files"].as_array().expect("files") {
        let is_there = |asset: &&&toml::Value| {
            let name = asset[1].as_str().unwrap_or_default();
            file.as_str().is_some_and(|file| file == format!("/{name}"))
        };
        assert!(targets.iter().find(is_there).is_some(), "{file}");
    }
    let build = read("deploy/debian/build");
    for asset in &targets {
        let made = asset[0].as_str().expect("a path").strip_prefix("target/deb/");
        let made = made.and_then(|path| path.split('/').next());
        assert!(made.is_none_or(|made| build.contains(made)), "nothing makes {asset}");
    }
}

#[test]
fn the_table_has_every_file() {
    let readme = read("deploy/README.md");
    assert!(files().len() > 20, "the files were not found");
    for file in files() {
        let named = file == "README.md" || readme.contains(&format!("`{file}`"));
        assert!(named, "deploy/README.md does not name {file}");
    }
}
