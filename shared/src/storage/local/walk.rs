//! What lies in a folder and below, one folder after another: memory holds one folder's names at a time, and the folders that
//! are still to come.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures::{Stream, TryStreamExt, stream};

use super::{Listed, modified_at, stays_below};

/// The files below `root` whose path below it begins with `prefix`.
pub(super) fn files<'a>(
    root: &Path,
    prefix: &str,
) -> impl Stream<Item = std::io::Result<Listed>> + Send + use<'a> {
    let (root, prefix) = (root.to_owned(), prefix.to_owned());
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let first = if stays_below(folder) { vec![root.join(folder)] } else { Vec::new() };
    let folders = stream::try_unfold(first, move |mut folders| {
        let (root, prefix) = (root.clone(), prefix.clone());
        async move {
            let Some(folder) = folders.pop() else { return std::io::Result::Ok(None) };
            let look = move || one_folder(&root, &folder, &prefix);
            let (files, more) = tokio::task::spawn_blocking(look).await.map_err(std::io::Error::other)??;
            folders.extend(more);
            Ok(Some((stream::iter(files.into_iter().map(std::io::Result::Ok)), folders)))
        }
    });
    folders.try_flatten()
}

/// The files and folders in a folder that begin with `prefix`. One that is gone meanwhile is empty.
fn one_folder(root: &Path, folder: &Path, prefix: &str) -> std::io::Result<(Vec<Listed>, Vec<PathBuf>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((files, folders));
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        if !key.starts_with(prefix) {
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => folders.push(path),
            Ok(metadata) => {
                let (key, modified_at) = (key.to_owned(), modified_at(&metadata));
                files.push(Listed { key, size: metadata.len(), modified_at });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((files, folders))
}
