//! The oldest Rust that the manifest promises is enough for every crate that is locked.

use serde_json::Value;
use std::process::Command;

/// `1.88` and `1.88.0` are the same version.
fn version(text: &str) -> Vec<u32> {
    let parts = text.split('.').map(|part| part.parse().expect("a number"));
    parts.chain([0, 0]).take(3).collect()
}

#[test]
fn no_dependency_asks_for_a_newer_rust_than_the_manifest_promises() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let promised = version(env!("CARGO_PKG_RUST_VERSION"));
    let mut said = 0;
    for package in packages {
        let Some(asked) = package["rust_version"].as_str() else { continue };
        said += 1;
        let is_enough = version(asked) <= promised;
        assert!(is_enough, "{} {} asks for {asked}", package["name"], package["version"]);
    }
    assert!(said > 50, "only {said} of {} packages say what they ask for", packages.len());
}
