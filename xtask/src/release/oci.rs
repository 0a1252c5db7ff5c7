//! A container image as an OCI archive, made without a container engine: one layer with the
//! program and its user, a configuration, a manifest, an index, in a tar (the image-layout of the
//! OCI image specification, version 1.1). `podman load`, `skopeo` and `ctr image import` take it.

use super::{Release, Result, Target, do_it, said};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is run if nothing else is said, as in deploy/container/Containerfile.
const COMMAND: [&str; 7] =
    ["serve", "--cache", "/cache", "--admin", "127.0.0.1:9550", "--log-format", "json"];

/// Who the program is in the container, as there.
const USER: &str = "65532:65532";

pub(super) fn archive(release: &Release, target: &Target, programs: &Path) -> Result<PathBuf> {
    let layout = release.work.join(format!("oci-{}", target.called));
    if layout.exists() {
        fs::remove_dir_all(&layout)?;
    }
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let (layer, plain) = layer(release, &layout, programs)?;
    let created = said(
        Command::new("date")
            .args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"])
            .arg(format!("--date=@{}", release.epoch)),
    )?;
    let labels = json!({
        "org.opencontainers.image.title": "js5d",
        "org.opencontainers.image.description": "A JS5 server",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.revision": release.commit,
    });
    let config = blob(
        &layout,
        "config",
        &json!({
            "architecture": target.called,
            "os": "linux",
            "created": created,
            "config": {
                "User": USER,
                "ExposedPorts": { "43594/tcp": {} },
                "Entrypoint": ["/usr/local/bin/js5d"],
                "Cmd": COMMAND,
                // So that 'docker exec NAME js5d reload' finds it.
                "Env": ["PATH=/usr/local/bin"],
                "StopSignal": "SIGTERM",
                "Labels": labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [plain] },
            "history": [{ "created": created, "created_by": "cargo xtask release" }],
        }),
    )?;
    let media = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    let manifest = blob(
        &layout,
        "manifest",
        &json!({
            "schemaVersion": 2,
            "mediaType": media("manifest"),
            "config": described(&config, &media("config")),
            "layers": [described(&layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
            "annotations": labels,
        }),
    )?;
    let mut entry = described(&manifest, &media("manifest"));
    entry["platform"] = json!({ "architecture": target.called, "os": "linux" });
    let name = format!("js5d:{}", release.version);
    entry["annotations"] = json!({
        "org.opencontainers.image.ref.name": name,
        // What Docker's and containerd's import call the image.
        "io.containerd.image.name": format!("docker.io/library/{name}"),
    });
    let index = json!({ "schemaVersion": 2, "mediaType": media("index"), "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    let archive = format!("js5d-{}-{}.oci.tar", release.version, target.called);
    let archive = release.dist.join(archive);
    let names = ["oci-layout", "index.json", "blobs"].map(OsStr::new);
    release.tar(&layout, &names, &archive)?;
    Ok(archive)
}

/// A file of the layout, named by its content.
struct Blob {
    digest: String,
    len: u64,
}

fn described(blob: &Blob, media: &str) -> Value {
    json!({ "mediaType": media, "digest": blob.digest, "size": blob.len })
}

fn digest(path: &Path) -> Result<String> {
    let line = said(Command::new("sha256sum").arg(path))?;
    let hash = line.split(' ').next().ok_or("sha256sum says nothing")?;
    Ok(format!("sha256:{hash}"))
}

/// Gives a file its name.
fn placed(layout: &Path, file: &Path) -> Result<Blob> {
    let digest = digest(file)?;
    let len = fs::metadata(file)?.len();
    fs::rename(file, layout.join("blobs").join(digest.replace(':', "/")))?;
    Ok(Blob { digest, len })
}

fn blob(layout: &Path, name: &str, content: &Value) -> Result<Blob> {
    let file = layout.join(name);
    fs::write(&file, content.to_string())?;
    placed(layout, &file)
}

/// The only layer, and the digest of it before compression.
fn layer(release: &Release, layout: &Path, programs: &Path) -> Result<(Blob, String)> {
    let root = layout.join("root");
    for dir in ["usr/local/bin", "etc", "cache"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy(programs.join("js5d"), root.join("usr/local/bin/js5d"))?;
    fs::write(root.join("etc/passwd"), "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")?;
    fs::write(root.join("etc/group"), "nonroot:x:65532:\n")?;
    let plain = layout.join("layer.tar");
    release.tar(&root, &["cache", "etc", "usr"].map(OsStr::new), &plain)?;
    let before = digest(&plain)?;
    do_it(Command::new("gzip").args(["--no-name", "--best"]).arg(&plain))?;
    fs::remove_dir_all(&root)?;
    Ok((placed(layout, &layout.join("layer.tar.gz"))?, before))
}
