//! A spool in a folder, local or shared between machines.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::publish::{self, Moved, Other, make_dir};
use super::{Backend, at, delete_dir, names};
use crate::clock::Timestamp;

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        make_dir(&root).map_err(at(&root))?;
        access(&root, AccessFlags::W_OK | AccessFlags::X_OK)?;
        Ok(Self { root })
    }
}

impl Backend for Folder {
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        names(&self.root.join(folder))
    }

    fn put(&self, from: &Path, folder: &str, name: &str, other: Other) -> io::Result<Moved> {
        publish::move_into(from, &self.root.join(folder), name, other)
    }

    fn open(&self, folder: &str, name: &str) -> io::Result<File> {
        let path = self.root.join(folder).join(name);
        File::open(&path).map_err(at(&path))
    }

    fn fetch(&self, folder: &str, name: &str, _into: &Path) -> io::Result<PathBuf> {
        let path = self.root.join(folder).join(name);
        fs::metadata(&path).map_err(at(&path))?;
        Ok(path)
    }

    fn delete(&self, folder: &str) -> io::Result<()> {
        delete_dir(&self.root.join(folder))
    }

    // What a crash leaves half copied has a hidden name, and is replaced by the next move or goes with its folder.
    fn abort_unfinished(&self, _before: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn prefix(&self) -> Option<&str> {
        None
    }

    fn may_be_away(&self) -> bool {
        false
    }
}
