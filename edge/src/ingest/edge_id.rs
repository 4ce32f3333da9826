//! This edge's id, made once and kept in the capture's folder: the capture and the id go together, wherever they move.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use shared::id::EdgeId;

/// Reads the id, or makes one and puts it on stable storage.
///
/// # Errors
/// When the file cannot be read or written, or holds no id.
pub(super) fn load_or_make(capture_dir: &Path) -> anyhow::Result<EdgeId> {
    let path = capture_dir.join("edge-id");
    match fs::read_to_string(&path) {
        Ok(text) => {
            EdgeId::parse(text.trim()).context("the file edge-id in the capture folder holds no edge id")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(capture_dir, &path).context("cannot write the file edge-id in the capture folder")
        }
        Err(error) => Err(error).context("cannot read the file edge-id in the capture folder"),
    }
}

fn make(capture_dir: &Path, path: &Path) -> std::io::Result<EdgeId> {
    let id = EdgeId::generate();
    let aside = capture_dir.join("edge-id.new");
    let mut file = File::create(&aside)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(capture_dir)?.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_make(dir.path()).unwrap();
        assert_eq!(load_or_make(dir.path()).unwrap(), first);
    }

    #[test]
    fn a_damaged_id_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("edge-id"), "edge_?").unwrap();
        assert!(load_or_make(dir.path()).is_err());
    }
}
