//! A child process that can't outlive the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// A running process. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Mutex<std::process::Child>,
    log: PathBuf,
}

impl Child {
    /// Starts `command`, with its output in `log` (appended).
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("log file");
        let mut bound = wrapped(&["setpriv", "--pdeathsig", "KILL", "--"], command);
        bound.stdin(Stdio::null()).stdout(output.try_clone().expect("log file")).stderr(output);
        let process = spawn_from_lasting_thread(bound).unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), process: Mutex::new(process), log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.lock().id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&self) {
        let mut process = self.lock();
        // An error means that it has ended already.
        let _ended = process.kill();
        process.wait().expect("reap");
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGINT
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// The exit status, once it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.lock().try_wait().expect("wait")
    }

    /// Waits for the end; panics at the deadline.
    pub async fn exit(&self, deadline: Duration) -> ExitStatus {
        eventually(&format!("end of {}", self.name), deadline, || async {
            self.exited().ok_or_else(|| format!("it runs; its log ends:\n{}", self.log_tail()))
        })
        .await
    }

    /// The most memory that it ever had resident, in bytes; none once it has ended.
    pub fn resident_bytes_max(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of it.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("pid");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {}: {error}\n{}", self.name, self.log_tail()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `command`, started by another program that replaces itself with it.
pub(crate) fn wrapped(by: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(by[0]);
    outer.args(&by[1..]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}

type Reply = Sender<std::io::Result<std::process::Child>>;

/// The kernel's "kill with the parent" means the parent's *thread*: tests' threads end with their test, this one never.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<std::process::Child> {
    static SPAWNER: OnceLock<Mutex<Sender<(Command, Reply)>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = channel::<(Command, Reply)>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _caller_gone = reply.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (reply, answer) = channel();
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command, reply)).expect("spawner");
    answer.recv().expect("spawner")
}
