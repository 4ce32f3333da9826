//! The Vercel Blob server of the tests as a program, for clients that are not Rust.
//!
//! Prints one line of JSON, `{"apiUrl", "downloadUrl", "token"}`, when it is ready; ends with its standard input.

use std::io::Write;

use clap::Parser;
use e2e::servers::vercel_blob::{Access, StoreSettings, VercelBlobServer};
use serde_json::json;

/// A store of Vercel Blob, in memory and in a temporary folder.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port of 127.0.0.1 to listen on; 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Who may read the store's blobs.
    #[arg(long, value_enum, default_value_t = Access::Private)]
    access: Access,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { port, access } = Arguments::parse();
    let server =
        VercelBlobServer::start_with(StoreSettings { port, access, ..StoreSettings::default() }).await;
    let ready = json!({
        "apiUrl": server.api_url(), "downloadUrl": server.download_url(), "token": server.token(),
    });
    writeln!(std::io::stdout(), "{ready}")?;
    let ended = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(ended).await??;
    Ok(())
}
