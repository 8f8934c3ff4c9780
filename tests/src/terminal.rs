//! `jaiminho` at a terminal that a person could sit at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::process::command;
use crate::within;

/// A program at a terminal of 140 columns and 30 rows. Dropping it hangs up.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    keys: ChildStdin,
    written: PathBuf,
    pid: PathBuf,
}

impl Terminal {
    /// Runs `jaiminho` there.
    pub fn jaiminho(directory: &Path, arguments: &[&str]) -> Self {
        let (written, pid) = (directory.join("terminal"), directory.join("terminal.pid"));
        let program = command(directory, arguments);
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let typed = format!("stty cols 140 rows 30; echo $$ > {}; exec {}", pid.display(), words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &typed]).arg(&written).current_dir(directory);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").kill_on_drop(true);
        script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut script = script.spawn().expect("script, of util-linux");
        let keys = script.stdin.take().expect("a pipe");
        Self { script, keys, written, pid }
    }

    /// Types.
    pub async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("the terminal is there");
    }

    /// All that was written to it, with what steers it.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.written).unwrap_or_default()).into_owned()
    }

    /// The program's.
    pub fn pid(&self) -> u32 {
        fs::read_to_string(&self.pid).expect("it has begun").trim().parse().expect("a process id")
    }

    /// The program's exit status.
    pub async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        within("the program's end", deadline, self.script.wait()).await.expect("wait")
    }
}
