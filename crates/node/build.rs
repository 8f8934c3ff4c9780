//! Tells the program which commit it is made of.

use std::process::Command;

fn main() {
    // In a tree without git (a release's archive) the environment may say it.
    let given = std::env::var("JAIMINHO_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(git).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=JAIMINHO_COMMIT={commit}");
    println!("cargo::rerun-if-env-changed=JAIMINHO_COMMIT");
    for path in ["../../.git/HEAD", "../../.git/logs/HEAD"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}
