//! A file that is read forward in small steps with seeks between them, without a system call for each.

use std::io::{BufReader, Read, Result, Seek, SeekFrom};

/// How much is read at once: some fifty packets of video, or the packets of four seconds of sound.
const BUFFER_BYTES: usize = 64 * 1024;

/// Keeps its buffer over a seek that stays within it, which [`BufReader`] does only for relative ones.
#[derive(Debug)]
pub(super) struct Buffered<R> {
    inner: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Buffered<R> {
    /// Reads from where `inner` stands, which must be its beginning.
    pub(super) fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER_BYTES, inner), at: 0 }
    }
}

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read + Seek> Seek for Buffered<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        match (to, i64::try_from(self.at)) {
            (SeekFrom::Start(to), Ok(at)) if i64::try_from(to).is_ok() => {
                self.inner.seek_relative(i64::try_from(to).unwrap_or(at) - at)?;
                self.at = to;
            }
            _ => self.at = self.inner.seek(to)?,
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn seeks_within_and_beyond_the_buffer_stand_where_they_should() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let mut file = Buffered::new(Cursor::new(&bytes));
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 200_000);
        for at in [0u64, 10, 5, 150_000, 149_990, 3, 199_999] {
            file.seek(SeekFrom::Start(at)).unwrap();
            let mut one = [0];
            file.read_exact(&mut one).unwrap();
            assert_eq!(u64::from(one[0]), at % 251);
        }
    }
}
