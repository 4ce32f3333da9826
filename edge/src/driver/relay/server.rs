//! Where the TURN server is: its name is looked up beside the media threads, which wait for nobody.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shared::lifecycle::Tasks;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tracing::warn;

use crate::ice::OwnTurn;

/// How often a name is looked up again: a server that is replaced by another is found in that time.
const AGAIN: Duration = Duration::from_secs(60);
/// How long after a name was not found.
const AGAIN_SOON: Duration = Duration::from_secs(5);

/// Looks the server's address up until the process stops. `None` inside: it is not known yet.
pub(in crate::driver) fn find(turn: &OwnTurn, tasks: &Tasks) -> watch::Receiver<Option<SocketAddr>> {
    let (host, port) = (turn.host.clone(), turn.port);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return watch::channel(Some(SocketAddr::new(ip, port))).1;
    }
    let (found, known) = watch::channel(None);
    let stop = tasks.stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(async move {
            loop {
                tokio::time::sleep(look(&host, port, &found).await).await;
            }
        })
        .await;
    });
    known
}

/// Looks once, and tells how long to wait. An address that was found stays while the name is not found.
async fn look(host: &str, port: u16, found: &watch::Sender<Option<SocketAddr>>) -> Duration {
    // IPv4 first: the address that the server gives us is one, and so is most of what reaches it.
    let address = lookup_host((host, port)).await.map(|all| all.min_by_key(SocketAddr::is_ipv6));
    match address {
        Ok(Some(address)) => {
            found.send_replace(Some(address));
            AGAIN
        }
        Ok(None) => AGAIN_SOON,
        Err(error) => {
            warn!("WEBRTC_TURN_SERVER_URL: cannot find {host}: {error}");
            AGAIN_SOON
        }
    }
}
