//! Clients that cost as little as possible, for they share the machine with what is measured: one thread and one kept-alive
//! connection each, heads made beforehand, and bodies that `sendfile` takes from the page cache without a copy of ours.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The longest that an answer may take; the edge is stuck then.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 8 * 1024;
/// An uploader calls little.
const STACK_BYTES: usize = 256 * 1024;

/// Who uploads what.
#[derive(Debug, Clone)]
pub(crate) struct Uploader {
    /// The edge.
    pub(crate) address: SocketAddr,
    /// Up to the sequence, which is put after it.
    pub(crate) path: String,
    /// Every header, each with its line's end.
    pub(crate) headers: String,
    /// The chunk, which is sent under every sequence.
    pub(crate) body: PathBuf,
    /// How many.
    pub(crate) chunks: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Uploaded {
    /// From the first byte of the first request to the last answer.
    pub(crate) took: Duration,
    /// From a request's first byte to its answer's last, of every chunk, ascending.
    pub(crate) acks: Vec<Duration>,
}

/// Uploads everything, all at once.
pub(crate) fn upload(uploaders: &[Uploader]) -> io::Result<Uploaded> {
    let ready = Barrier::new(uploaders.len() + 1);
    let (begun, done) = std::thread::scope(|scope| {
        let ready = &ready;
        let threads: Vec<_> = uploaders
            .iter()
            .map(|one| {
                std::thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, move || one.run(ready))
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let done: Vec<io::Result<Vec<Duration>>> = threads
            .into_iter()
            .map(|thread| thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        (begun, done)
    });
    let took = begun.elapsed();
    let mut acks = done.into_iter().collect::<io::Result<Vec<_>>>()?.concat();
    acks.sort_unstable();
    Ok(Uploaded { took, acks })
}

impl Uploader {
    fn run(&self, ready: &Barrier) -> io::Result<Vec<Duration>> {
        // Nobody may wait for somebody who has failed: the barrier comes first.
        let opened = self.open();
        ready.wait();
        let (mut connection, mut body) = opened?;
        let mut acks = Vec::with_capacity(usize::try_from(self.chunks).unwrap_or_default());
        for sequence in 0..self.chunks {
            let head = format!("PUT {}{sequence} HTTP/1.1\r\n{}\r\n", self.path, self.headers);
            let begun = Instant::now();
            connection.write_all(head.as_bytes())?;
            body.rewind()?;
            io::copy(&mut body, &mut connection)?;
            answer(&mut connection)?;
            acks.push(begun.elapsed());
        }
        Ok(acks)
    }

    fn open(&self) -> io::Result<(TcpStream, File)> {
        let connection = TcpStream::connect(self.address)?;
        // Otherwise the end of a body waits for the acknowledgement of what comes before.
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(ANSWER_MAX))?;
        connection.set_write_timeout(Some(ANSWER_MAX))?;
        Ok((connection, File::open(&self.body)?))
    }
}

/// Reads one answer to its end; it must be 201.
fn answer(connection: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; ANSWER_BYTES];
    let mut len = 0;
    loop {
        let read = connection.read(&mut bytes[len..])?;
        len += read;
        let text = String::from_utf8_lossy(&bytes[..len]);
        if read == 0 {
            return Err(io::Error::other(format!("no whole answer: {text:?}")));
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 201 ") {
            return Err(io::Error::other(format!("refused: {text}")));
        }
        if body.len() >= content_length(head).unwrap_or_default() {
            return Ok(());
        }
    }
}

fn content_length(head: &str) -> Option<usize> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

/// A file that an uploader may send.
pub(crate) fn write_body(folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join("chunk");
    std::fs::write(&path, bytes)?;
    Ok(path)
}
