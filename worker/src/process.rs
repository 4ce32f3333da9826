//! The one door to other programs. Whoever comes through it gets: an empty environment, no stdin, its own process group,
//! limits on memory, file size and core dumps, low priority, a deadline, a stall watch, and a kill of the whole group on every
//! way out, including a dropped future. When this process itself is killed, the kernel kills the program: nobody else would.
//!
//! Output is read as it comes: lines of stdout go to the caller (FFmpeg's `-progress`), of stderr the last few are kept. Both
//! must be drained, or a full pipe stalls the program; and neither may grow without bound, as its content is a stranger's.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where programs are looked for, whatever this process's own `PATH` says.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How many lines of stderr are kept for the error message.
const STDERR_LINES: usize = 64;
/// The longest line that is kept; the rest of it is skipped.
const LINE_MAX: usize = 4 * 1024;
/// Address space of a program. FFmpeg maps far more than it uses: below 4 GiB it fails on harmless files.
const ADDRESS_SPACE: u64 = 8 << 30;
/// The largest file a program may write: a day of video at the highest bitrate that the options allow fits.
const FILE_SIZE: u64 = 1 << 40;
/// Programs step back behind the processes that take calls.
const NICE: i32 = 10;

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall-clock time in all.
    pub wall: Duration,
    /// Time without a line on stdout, for programs that report progress.
    pub stall: Option<Duration>,
}

/// A program that ended with success.
#[derive(Debug)]
pub struct Finished {
    /// The last lines of its stderr.
    pub stderr: String,
}

/// A program that did not.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("{program} does not start: {error}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// The caller no longer wants it.
    #[error("{0} was cancelled")]
    Cancelled(String),
    /// It took longer than it may.
    #[error("{program} took longer than {} s", limit.as_secs())]
    Deadline {
        /// The program.
        program: String,
        /// What it was given.
        limit: Duration,
    },
    /// It said nothing for too long.
    #[error("{program} made no progress for {} s", limit.as_secs())]
    Stalled {
        /// The program.
        program: String,
        /// What it was given.
        limit: Duration,
    },
    /// It ended with an error.
    #[error("{program} ended with {status}: {stderr}")]
    Exit {
        /// The program.
        program: String,
        /// Its status.
        status: ExitStatus,
        /// The last lines of its stderr.
        stderr: String,
    },
    /// Its pipes broke.
    #[error("{program} could not be read: {error}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Whether [`run`] would find a program.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

/// Runs a program in `folder` until it ends, and hands each line of its stdout to `on_line`.
///
/// # Errors
/// When it cannot be started, is cancelled, overruns a limit, or ends with anything but success.
pub async fn run(
    command: std::process::Command,
    folder: &Path,
    limits: Limits,
    cancel: &CancellationToken,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<Finished, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut group =
        spawn(command, folder).map_err(|error| ProcessError::Spawn { program: program.clone(), error })?;
    let wall = Instant::now() + limits.wall;
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let mut out = Lines::new(stdout);
    let tail = tokio::spawn(tail(Lines::new(stderr)));
    let mut stalled_at = limits.stall.map(|stall| Instant::now() + stall);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Err(ProcessError::Cancelled(program)),
            () = tokio::time::sleep_until(wall) => return Err(ProcessError::Deadline { program, limit: limits.wall }),
            () = until(stalled_at) => {
                return Err(ProcessError::Stalled { program, limit: limits.stall.unwrap_or_default() });
            }
            line = out.next() => match line {
                Ok(Some(line)) => {
                    on_line(&line);
                    stalled_at = limits.stall.map(|stall| Instant::now() + stall);
                }
                Ok(None) => break,
                Err(error) => return Err(ProcessError::Io { program, error }),
            },
        }
    }
    let status = tokio::select! {
        status = group.child.wait() => status.map_err(|error| ProcessError::Io { program: program.clone(), error })?,
        () = cancel.cancelled() => return Err(ProcessError::Cancelled(program)),
        () = tokio::time::sleep_until(wall) => return Err(ProcessError::Deadline { program, limit: limits.wall }),
    };
    // Anything it left in its group goes now, which also closes the pipe that `tail` reads.
    drop(group);
    let stderr = tail.await.unwrap_or_default();
    if status.success() {
        Ok(Finished { stderr })
    } else {
        Err(ProcessError::Exit { program, status, stderr })
    }
}

/// Runs a program and returns its whole stdout, at most `max` bytes of it.
///
/// # Errors
/// As [`run`].
pub async fn output(
    command: std::process::Command,
    folder: &Path,
    limits: Limits,
    cancel: &CancellationToken,
    max: usize,
) -> Result<String, ProcessError> {
    let mut text = String::new();
    run(command, folder, limits, cancel, |line| {
        if text.len() + line.len() < max {
            text.push_str(line);
            text.push('\n');
        }
    })
    .await?;
    Ok(text)
}

/// A child and everything it starts, killed when dropped.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Gone already is what we want.
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

fn spawn(mut command: std::process::Command, folder: &Path) -> std::io::Result<Group> {
    use std::os::unix::process::CommandExt;
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    limit(&mut command);
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok(Group { child, id })
}

#[expect(unsafe_code, reason = "limits of a child can only be set between fork and exec")]
fn limit(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = Pid::this();
    // SAFETY: the closure runs in the forked child before exec and calls only prctl, getppid, setrlimit and setpriority, which
    // are plain system calls: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            end_with(parent)?;
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE)?;
            setrlimit(Resource::RLIMIT_FSIZE, FILE_SIZE, FILE_SIZE)?;
            nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE);
            Ok(())
        });
    }
}

/// Lets the kernel kill this child when `parent` dies. The signal comes when the *thread* that forked ends (prctl(2)); that is
/// one of the runtime's, which live as long as the process.
fn end_with(parent: Pid) -> nix::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before it could be watched.
    if Pid::parent() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH) }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn tail<R: AsyncRead + Unpin>(mut lines: Lines<R>) -> String {
    let mut kept = VecDeque::with_capacity(STDERR_LINES);
    while let Ok(Some(line)) = lines.next().await {
        if kept.len() == STDERR_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    Vec::from(kept).join("\n")
}

/// Lines of bounded length from a pipe of unbounded content.
struct Lines<R> {
    reader: Option<BufReader<R>>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { reader: pipe.map(BufReader::new) }
    }

    async fn next(&mut self) -> std::io::Result<Option<String>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut line = Vec::new();
        loop {
            let block = reader.fill_buf().await?;
            if block.is_empty() {
                return Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()));
            }
            let end = block.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = block.get(..end.unwrap_or(block.len())).unwrap_or_default();
            line.extend_from_slice(part.get(..part.len().min(LINE_MAX - line.len())).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            reader.consume(used);
            if end.is_some() {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the commands handed to the door under test")]
mod tests {
    use super::*;

    const SOON: Limits = Limits { wall: Duration::from_secs(20), stall: None };

    fn sh(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        command
    }

    async fn sh_output(script: &str, limits: Limits) -> Result<String, ProcessError> {
        output(sh(script), Path::new("/tmp"), limits, &CancellationToken::new(), 1 << 20).await
    }

    #[tokio::test]
    async fn a_program_sees_no_environment_and_no_stdin() {
        let text = sh_output("env | cut -d= -f1 | sort | tr '\\n' ' '; wc -c", SOON).await.unwrap();
        assert_eq!(text, "LC_ALL PATH PWD 0\n");
    }

    #[tokio::test]
    async fn an_error_carries_the_end_of_stderr() {
        let error = sh_output("seq 1 1000 >&2; echo the reason >&2; exit 3", SOON).await.unwrap_err();
        let ProcessError::Exit { stderr, status, .. } = error else { panic!("{error}") };
        assert_eq!(status.code(), Some(3));
        assert_eq!(stderr.lines().count(), STDERR_LINES);
        assert!(stderr.ends_with("1000\nthe reason"));
    }

    #[tokio::test]
    async fn cancelling_kills_the_whole_group() {
        let (cancel, folder) = (CancellationToken::new(), tempfile::tempdir().unwrap());
        let script = sh("sleep 1000 & echo $!; wait");
        let mut pid = None;
        let result = run(script, folder.path(), SOON, &cancel.clone(), |line| {
            pid = line.parse::<i32>().ok();
            cancel.cancel();
        })
        .await;
        assert!(matches!(result, Err(ProcessError::Cancelled(_))));
        let grandchild = Pid::from_raw(pid.unwrap());
        while nix::sys::signal::kill(grandchild, None).is_ok() && state(grandchild) != 'Z' {
            tokio::task::yield_now().await;
        }
    }

    fn state(pid: Pid) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).unwrap_or('Z')
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_is_stalled() {
        let limits = Limits { stall: Some(Duration::from_millis(100)), ..SOON };
        assert!(matches!(sh_output("sleep 1000", limits).await, Err(ProcessError::Stalled { .. })));
        let limits = Limits { wall: Duration::from_millis(100), stall: None };
        assert!(matches!(sh_output("sleep 1000", limits).await, Err(ProcessError::Deadline { .. })));
    }

    #[tokio::test]
    async fn an_endless_line_costs_no_memory() {
        let text = sh_output("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo end", SOON).await.unwrap();
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [LINE_MAX, 3]);
    }

    #[tokio::test]
    async fn no_core_is_dumped_and_the_program_steps_back() {
        assert_eq!(sh_output("ulimit -c; nice", SOON).await.unwrap(), format!("0\n{NICE}\n"));
    }

    #[test]
    fn a_program_is_installed_or_not() {
        assert!(is_installed("sh") && !is_installed("no-such-program"));
    }
}
