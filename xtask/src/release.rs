//! `cargo xtask release`: the artefacts of a release, made from one commit, reproducibly.
//!
//! `target/dist/` then has, for each target: an archive with the programs, manual and completions;
//! a Debian package; a container image as an OCI archive; a bill of materials; and the checksums of
//! all. The programs are static, so the archive runs on any Linux. Whatever carries a time carries
//! the commit's, and no path of this machine is in any of it. docs/releasing.md has the steps.

mod install;
mod oci;
mod version;

pub(crate) use version::{Args as VersionArgs, run as set_version};

use crate::compare::Result;
use crate::workspace::root;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Each with the name that Debian and container images give its architecture, and the linker.
const TARGETS: &[Target] = &[
    Target { triple: "x86_64-unknown-linux-gnu", called: "amd64", linker: "x86_64-linux-gnu-gcc" },
    Target {
        triple: "aarch64-unknown-linux-gnu",
        called: "arm64",
        linker: "aarch64-linux-gnu-gcc",
    },
];

/// Tools that cargo installs into target/tools, if they are not there in this version.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const CARGO_CYCLONEDX: (&str, &str) = ("cargo-cyclonedx", "0.5.9");

/// Options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Install each artefact of this machine's architecture into a fresh root, and let it serve;
    /// needs root, mmdebstrap, podman and runc
    #[arg(long)]
    check: bool,

    /// Build all of it once more from a clone in another directory, and compare
    #[arg(long)]
    again: bool,

    /// Include what is not committed; for trials, because such a build cannot be repeated
    #[arg(long)]
    dirty: bool,
}

struct Target {
    triple: &'static str,
    called: &'static str,
    linker: &'static str,
}

/// What a release is made of and where it goes.
struct Release {
    root: PathBuf,
    /// Where cargo and the packaging put what only they need.
    work: PathBuf,
    /// What is handed out.
    dist: PathBuf,
    version: String,
    /// The commit's time, in seconds since 1970.
    epoch: String,
    commit: String,
}

/// Builds and, if asked to, checks.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let release = Release::new(args.dirty)?;
    let mut built = 0;
    for target in TARGETS {
        if let Some(missing) = target.missing()? {
            println!("SKIP  {}: {missing}", target.triple);
            continue;
        }
        release.build(target)?;
        built += 1;
    }
    if built == 0 {
        return Err("nothing can be built for any target".into());
    }
    release.checksums()?;
    if args.again {
        release.again()?;
    }
    if args.check {
        install::check(&release)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Target {
    /// What this machine lacks for it, with the remedy.
    fn missing(&self) -> Result<Option<String>> {
        let libdir = said(
            Command::new("rustc").args(["--print", "target-libdir", "--target"]).arg(self.triple),
        )?;
        if !Path::new(&libdir).is_dir() {
            let triple = self.triple;
            return Ok(Some(format!(
                "its standard library is missing: rustup target add {triple}"
            )));
        }
        if Command::new(self.linker).arg("--version").output().is_err() {
            let package = self.linker.strip_suffix("-gcc").unwrap_or(self.linker);
            let linker = self.linker;
            return Ok(Some(format!(
                "{linker} is missing (Debian: gcc-{})",
                package.replace('_', "-")
            )));
        }
        Ok(None)
    }

    /// The triple as part of a variable's name.
    fn variable(&self) -> String {
        self.triple.to_uppercase().replace('-', "_")
    }
}

impl Release {
    fn new(dirty: bool) -> Result<Self> {
        let root = root().canonicalize()?;
        let git = |args: &[&str]| said(Command::new("git").current_dir(&root).args(args));
        let changes = git(&["status", "--porcelain"])?;
        if !(changes.is_empty() || dirty) {
            return Err(format!("what is not committed cannot be built again:\n{changes}").into());
        }
        let commit = git(&["rev-parse", "HEAD"])?;
        let epoch = git(&["log", "-1", "--format=%ct"])?;
        let (work, dist) = (root.join("target/release-work"), root.join("target/dist"));
        if dist.exists() {
            fs::remove_dir_all(&dist)?;
        }
        fs::create_dir_all(&dist)?;
        fs::create_dir_all(&work)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { root, work, dist, version, epoch, commit })
    }

    fn build(&self, target: &Target) -> Result<()> {
        let programs = self.compile(target)?;
        let stage = self.stage(target, &programs)?;
        let archive = self.dist.join(format!("{}.tar.gz", self.name(target)));
        self.pack(&stage, &archive)?;
        self.announce(&archive)?;
        self.announce(&self.package(target, &stage)?)?;
        self.announce(&oci::archive(self, target, &programs)?)?;
        self.announce(&self.bill(target)?)
    }

    fn name(&self, target: &Target) -> String {
        format!("js5d-{}-{}", self.version, target.triple)
    }

    fn announce(&self, path: &Path) -> Result<()> {
        let size = fs::metadata(path)?.len() as f64 / 1e6;
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        println!("made  {} ({size:.1} MB)", path.display());
        Ok(())
    }

    /// Static programs, without a path of this machine and without line tables.
    fn compile(&self, target: &Target) -> Result<PathBuf> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let home = home.ok_or("neither CARGO_HOME nor HOME is set")?;
        let flags = [
            "-Ctarget-feature=+crt-static".to_owned(),
            format!("--remap-path-prefix={}=/cargo", home.display()),
            format!("--remap-path-prefix={}=/js5d", self.root.display()),
        ];
        let into = self.work.join("build");
        let mut cargo = cargo();
        cargo.args(["build", "--release", "--locked", "--package", "js5d"]);
        cargo.args(["--package", "js5-loadgen", "--bins", "--target", target.triple]);
        cargo.arg("--target-dir").arg(&into).current_dir(&self.root);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
        cargo.env(format!("CARGO_TARGET_{}_LINKER", target.variable()), target.linker);
        do_it(cargo.env("SOURCE_DATE_EPOCH", &self.epoch))?;
        Ok(into.join(target.triple).join("release"))
    }

    /// The directory that the archive has.
    fn stage(&self, target: &Target, programs: &Path) -> Result<PathBuf> {
        let stage = self.work.join(self.name(target));
        if stage.exists() {
            fs::remove_dir_all(&stage)?;
        }
        let share = stage.join("share");
        let completions = [
            ("bash", share.join("bash-completion/completions/js5d")),
            ("zsh", share.join("zsh/site-functions/_js5d")),
            ("fish", share.join("fish/vendor_completions.d/js5d.fish")),
        ];
        fs::create_dir_all(stage.join("bin"))?;
        for program in ["js5d", "js5-loadgen"] {
            fs::copy(programs.join(program), stage.join("bin").join(program))?;
        }
        // By a program of this machine: what it writes is the same everywhere.
        let own = self.runnable(target, programs)?;
        let man = share.join("man/man1");
        fs::create_dir_all(&man)?;
        do_it(Command::new(&own).args(["man", "--dir"]).arg(&man))?;
        for (shell, path) in completions {
            fs::create_dir_all(path.parent().unwrap_or(&share))?;
            let text = said_as_it_is(Command::new(&own).args(["completions", shell]))?;
            fs::write(path, text)?;
        }
        let doc = share.join("doc/js5d");
        fs::create_dir_all(&doc)?;
        // What the commit has, and nothing that lies beside it.
        let listed = said(Command::new("git").current_dir(&self.root).args([
            "ls-files",
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "SECURITY.md",
            "docs",
            "deploy",
        ]))?;
        for file in listed.lines() {
            let to = doc.join(file);
            fs::create_dir_all(to.parent().unwrap_or(&doc))?;
            fs::copy(self.root.join(file), to)?;
        }
        Ok(stage)
    }

    /// A js5d that runs here: the one that was built, or the first target's.
    fn runnable(&self, target: &Target, programs: &Path) -> Result<PathBuf> {
        let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        if target.triple == here {
            return Ok(programs.join("js5d"));
        }
        let own = self.work.join("build").join(&here).join("release/js5d");
        own.exists().then_some(own).ok_or_else(|| format!("no js5d was built for {here}").into())
    }

    /// A compressed archive of a directory in which nothing depends on when and by whom it is made.
    fn pack(&self, dir: &Path, archive: &Path) -> Result<()> {
        let (parent, name) = (dir.parent().ok_or("no parent")?, dir.file_name().ok_or("no name")?);
        let plain = archive.with_extension("");
        self.tar(parent, &[name], &plain)?;
        do_it(Command::new("gzip").args(["--no-name", "--best", "--force"]).arg(&plain))
    }

    fn tar(&self, dir: &Path, names: &[&OsStr], archive: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0"]);
        tar.args(["--numeric-owner", "--mode=u+rw,go=rX"]).arg(format!("--mtime=@{}", self.epoch));
        tar.arg("--file").arg(archive).arg("--directory").arg(dir).args(names);
        do_it(&mut tar)
    }

    /// The Debian package, as [package.metadata.deb] of Cargo.toml has it.
    fn package(&self, target: &Target, stage: &Path) -> Result<PathBuf> {
        let tools = self.tool(CARGO_DEB)?;
        let made = self.root.join("target/deb");
        if made.exists() {
            fs::remove_dir_all(&made)?;
        }
        fs::create_dir_all(made.join("completions"))?;
        let share = stage.join("share");
        do_it(Command::new("cp").arg("-r").arg(share.join("man/man1")).arg(made.join("man")))?;
        let completions = [
            ("bash-completion/completions/js5d", "js5d.bash"),
            ("zsh/site-functions/_js5d", "_js5d"),
            ("fish/vendor_completions.d/js5d.fish", "js5d.fish"),
        ];
        for (from, to) in completions {
            fs::copy(share.join(from), made.join("completions").join(to))?;
        }
        let package = self.dist.join(format!("js5d_{}_{}.deb", self.version, target.called));
        let mut deb = Command::new(tools.join("cargo-deb"));
        deb.args(["deb", "--package", "js5d", "--no-build", "--no-strip", "--target"]);
        deb.arg(target.triple).arg("--output").arg(&package).current_dir(&self.root);
        deb.env("CARGO_TARGET_DIR", self.work.join("build"));
        do_it(deb.env("SOURCE_DATE_EPOCH", &self.epoch))?;
        Ok(package)
    }

    /// The bill of materials, by deploy/sbom.
    fn bill(&self, target: &Target) -> Result<PathBuf> {
        let tools = self.tool(CARGO_CYCLONEDX)?;
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(tools).chain(std::env::split_paths(&paths));
        let mut sbom = Command::new(self.root.join("deploy/sbom"));
        sbom.arg(target.triple).env("PATH", std::env::join_paths(paths)?);
        let written = said(&mut sbom)?;
        let bill = self.dist.join(format!("{}.cdx.json", self.name(target)));
        fs::copy(self.root.join(written), &bill)?;
        Ok(bill)
    }

    /// Where a tool of cargo's is in the version that is wanted; installs it if need be.
    fn tool(&self, (name, version): (&str, &str)) -> Result<PathBuf> {
        let tools = self.root.join("target/tools").join(format!("{name}-{version}"));
        if !tools.join("bin").join(name).exists() {
            let mut cargo = cargo();
            cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]);
            do_it(cargo.arg(&tools).arg(name))?;
        }
        Ok(tools.join("bin"))
    }

    /// SHA256SUMS, as `sha256sum --check` reads it.
    fn checksums(&self) -> Result<()> {
        let mut names = Vec::new();
        for file in fs::read_dir(&self.dist)? {
            names.push(file?.file_name());
        }
        names.sort();
        let mut sha256sum = Command::new("sha256sum");
        let sums = said_as_it_is(sha256sum.current_dir(&self.dist).args(&names))?;
        fs::write(self.dist.join("SHA256SUMS"), &sums)?;
        print!("{sums}");
        Ok(())
    }

    /// The same commit in another place must come to the same bytes.
    fn again(&self) -> Result<()> {
        let clone = self.work.join("again");
        if clone.exists() {
            fs::remove_dir_all(&clone)?;
        }
        let mut git = Command::new("git");
        do_it(git.args(["clone", "--quiet"]).arg(&self.root).arg(&clone))?;
        do_it(Command::new("git").current_dir(&clone).args(["checkout", "--quiet", &self.commit]))?;
        // The tools are the same, so they need not be built again.
        fs::create_dir_all(clone.join("target"))?;
        std::os::unix::fs::symlink(self.root.join("target/tools"), clone.join("target/tools"))?;
        let mut xtask = cargo();
        xtask.args(["xtask", "release"]).current_dir(&clone);
        do_it(xtask.env_remove("CARGO_TARGET_DIR"))?;
        let sums = |root: &Path| fs::read_to_string(root.join("target/dist/SHA256SUMS"));
        let (first, second) = (sums(&self.root)?, sums(&clone)?);
        if first != second {
            return Err(format!("a second build differs:\n{first}and\n{second}").into());
        }
        fs::remove_dir_all(&clone)?;
        println!("ok    a build from a clone in another directory comes to the same checksums");
        Ok(())
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What belongs to this program's own build.
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("RUSTFLAGS");
    cargo
}

/// Runs a command that must do well.
fn do_it(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| named(command, &error))?;
    match status.success() {
        true => Ok(()),
        false => Err(named(command, &status).into()),
    }
}

/// What a command that must do well prints.
fn said_as_it_is(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| named(command, &error))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}\n{error}", named(command, &output.status)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The same without the line's end.
fn said(command: &mut Command) -> Result<String> {
    Ok(said_as_it_is(command)?.trim_end().to_owned())
}

fn named(command: &Command, what: &dyn std::fmt::Display) -> String {
    format!("{}: {what}", command.get_program().display())
}
