//! A process with its log, ended whatever happens to the test.
//!
//! Children stay in the test's process group: whoever ends a test that hangs ends them with it. When a test panics, the log is
//! printed beside the panic.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::env::Env;
use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};

/// How long a program may take to say that it is ready: a debug build on a machine that is busy with other tests.
pub const START_MAX: Duration = Duration::from_secs(60);
/// The lowest port that is chosen: servers that people run have lower ones.
const PORT_MIN: u32 = 10_000;
/// How far apart processes begin that have one id after the other; few choose more.
const PORTS_PER_PROCESS: u32 = 32;
/// How long a program that was asked to end may take: its own grace (25 s), and some.
const END_MAX: Duration = Duration::from_secs(45);
/// Between two looks at something that gives no signal.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The most lines that are kept of a program's log; one that says more has run wild.
const LOG_LINES_MAX: usize = 200_000;

/// A running program.
pub struct Program {
    name: String,
    child: Child,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Notify,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that sees none of the caller's environment but `PATH`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the tests' one door to other programs")]
pub fn command(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(program.into());
    command.env_clear();
    if let Ok(Some(path)) = Env::from_process().optional("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A port of the loopback address that nobody listens on, for a program that cannot choose one itself. The kernel gives it to
/// nobody else meanwhile, as it lies below those that it gives out (`ip_local_port_range`), nor does a test that runs beside this
/// one choose it, as each process begins elsewhere.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static CHOSEN: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.expect("the kernel tells which ports it gives out (proc(5))");
    let first_given = range.split_whitespace().next().and_then(|first| first.parse::<u32>().ok());
    let ports = PORT_MIN..first_given.expect("two numbers (ip(7))");
    let begin = std::process::id().wrapping_mul(PORTS_PER_PROCESS);
    for _ in ports.clone() {
        let chosen = begin.wrapping_add(CHOSEN.fetch_add(1, Ordering::Relaxed)) % (ports.end - ports.start);
        let port = u16::try_from(ports.start + chosen).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("every port of {ports:?} is taken");
}

/// Runs a program to its end and returns its output.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn output(command: &mut Command) -> Output {
    let done = command.stdin(Stdio::null()).output();
    let done =
        done.unwrap_or_else(|error| panic!("{} does not run: {error}", command.get_program().display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { ok: done.status.success(), stdout: text(&done.stdout), stderr: text(&done.stderr) }
}

/// What a program that ended has said.
#[derive(Debug)]
pub struct Output {
    /// Whether it returned 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts a program.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let log = Arc::new(Log::default());
        let readers = [
            child.stdout.take().map(|out| read(Arc::clone(&log), out)),
            child.stderr.take().map(|err| read(Arc::clone(&log), err)),
        ];
        Self { name, child, log, readers: readers.into_iter().flatten().collect() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line of its log that contains `needle`, as soon as there is one.
    ///
    /// # Panics
    /// When it ends, or [`START_MAX`] passes, before.
    pub async fn line_with(&mut self, needle: &str) -> String {
        self.line_within(needle, START_MAX).await
    }

    /// Like [`Self::line_with`], with a deadline of the caller's.
    ///
    /// # Panics
    /// When it ends, or the time passes, before.
    pub async fn line_within(&mut self, needle: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(line) = self.find(needle) {
                return line;
            }
            let ended = self.child.try_wait().ok().flatten();
            assert!(
                ended.is_none(),
                "{} ended ({ended:?}) before it said {needle:?}\n{}",
                self.name,
                self.log()
            );
            assert!(Instant::now() < deadline, "{} does not say {needle:?}\n{}", self.name, self.log());
            // A line that came between the look and this wait is seen at the next look.
            let _ = timeout(LOOK_EVERY, self.log.grown.notified()).await;
        }
    }

    fn find(&self, needle: &str) -> Option<String> {
        self.log.lines().iter().find(|line| line.contains(needle)).cloned()
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            // A grandchild that lives on may hold the pipe open; its reader ends with the test.
            if reader.is_finished() {
                let _ = reader.join();
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("the kernel's process ids are positive");
        kill(Pid::from_raw(pid), signal)
            .unwrap_or_else(|error| panic!("{} gets no {signal}: {error}", self.name));
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    /// When it is still there after its grace.
    pub async fn term(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + END_MAX;
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end\n{}", self.name, self.log());
        }
    }

    /// The most memory that it has held at once, in bytes (`VmHWM`).
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.told_in_kib("VmHWM:")
    }

    /// The memory that it holds now, in bytes (`VmRSS`).
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.told_in_kib("VmRSS:")
    }

    /// How many files, sockets and pipes it has open.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        open.unwrap_or_else(|error| panic!("{} is gone: {error}", self.name)).count()
    }

    /// A figure of proc(5)'s `status`, in bytes.
    fn told_in_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_else(|error| panic!("{} is gone: {error}", self.name));
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = value.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.expect("the kernel tells figures of memory in kB (proc(5))") * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            say(&format!(
                "--- log of {} ---\n{}\n--- end of log of {} ---",
                self.name,
                self.log(),
                self.name
            ));
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what a program said belongs beside the panic of the test that ran it"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

fn read(log: Arc<Log>, from: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut lines = log.lines();
            if lines.len() < LOG_LINES_MAX {
                lines.push(String::from_utf8_lossy(&line).into_owned());
            }
            drop(lines);
            log.grown.notify_waiters();
        }
    })
}
