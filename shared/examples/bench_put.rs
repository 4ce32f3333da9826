//! Puts one file into the storage that the environment names, and proves it there as the worker does: what `tests/bench` holds beside
//! `aws s3 cp`, `rclone copyto` and `cp`.

use std::path::Path;

use anyhow::{Context, bail};
use shared::env::Env;
use shared::storage::{Attributes, PutFile, StorageSettings};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, key] = &arguments[..] else { bail!("usage: bench_put FILE KEY") };
    let storage = StorageSettings::from_env(&Env::from_process())?.open().await?;
    let attributes = Attributes { content_type: "video/webm".to_owned(), ..Attributes::default() };
    let put = PutFile { key, file: Path::new(file), attributes: &attributes, resume: None };
    storage.put_file(&put, &()).await.context("put")?;
    let size = std::fs::metadata(file)?.len();
    let head = storage.head(key).await.context("head")?.context("it is not there")?;
    if head.size != size {
        bail!("{} bytes are there of {size}", head.size);
    }
    Ok(())
}
