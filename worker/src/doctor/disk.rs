//! Whether the folders can be written to, and their disks have room.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use shared::capture::{DiskReserve, Reserve};
use shared::spool::SpoolSettings;
use shared::storage::StorageSettings;

use super::{Finding, Trouble};
use crate::settings::Settings;

pub(super) fn has_room(settings: &Settings) -> Finding {
    let mut folders = vec![("SCRATCH_DIR", settings.scratch_dir.clone())];
    if let SpoolSettings::Folder(folder) = &settings.shared.spool {
        folders.insert(0, ("SPOOL_URL", folder.clone()));
    }
    let backup = settings.shared.backup.iter().map(|backup| &backup.storage);
    for storage in std::iter::once(&settings.shared.storage).chain(backup) {
        if let StorageSettings::Local(local) = storage {
            folders.push((local.variable, local.dir.clone()));
        }
    }
    let free: Result<Vec<String>, Trouble> =
        folders.iter().map(|(name, folder)| room(name, folder)).collect();
    free.map(|free| free.join(", "))
}

fn room(variable: &str, folder: &Path) -> Finding {
    let there = nearest(folder);
    if let Err(error) = access(&there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let what = format!("{variable}: {} cannot be written to: {error}", there.display());
        return Err(Trouble::new(
            what,
            format!("give the worker's user the folder, or set {variable} to another"),
        ));
    }
    let disk = Reserve::new(there, DiskReserve::default()).disk();
    let disk =
        disk.map_err(|error| Trouble::new(format!("{variable}: {error}"), "check the disk and its mount"))?;
    let free = format!("{variable} has {:.1} GiB free", gib(disk.free));
    if disk.below_reserve {
        return Err(Trouble::new(free, "free space: below 5 % or 1 GiB nothing new is recorded"));
    }
    Ok(free)
}

/// The folder, or what of the way to it is there: the worker makes the rest.
fn nearest(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_still_to_be_made_is_judged_by_what_it_will_be_in() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b/c")), folder.path());
        assert_eq!(nearest(folder.path()), folder.path());
    }
}
