//! Those who play somebody by WHEP. They take seats, and are told to nobody.

use shared::id::UserId;
use tokio::time::Instant;

use super::resources::{Link, nobody};
use super::room::Room;
use super::{Denied, Inner};
use crate::driver::Media;
use crate::error::Code;

/// Somebody who plays somebody.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) user: UserId,
    pub(super) of: UserId,
    /// What came from them when it began.
    pub(super) media: Vec<sfu::Medium>,
    pub(super) link: Link,
}

impl Room {
    /// What can be played of somebody else, if there is a seat for it. What flows is agreed once, at the beginning: a player that came
    /// before the first packet would see nothing for ever.
    pub(super) fn can_be_played(&self, of: &UserId) -> Result<Vec<sfu::Medium>, Denied> {
        let member = self.member(of).ok_or_else(|| nobody(of))?;
        if member.publishes.is_empty() {
            return Err((Code::NotPublishing, format!("{of} sends nothing yet; try again")));
        }
        self.has_space()?;
        Ok(member.publishes.clone())
    }

    pub(super) fn add_player(&mut self, peer: sfu::PeerId, player: Player) {
        self.players.insert(peer, player);
    }

    /// Whether it was one.
    pub(super) fn remove_player(&mut self, peer: sfu::PeerId, inner: &Inner) -> bool {
        let removed = self.players.remove(&peer);
        if removed.is_some() {
            // A thread with too much to do lets the connection run out by itself.
            let _ = inner.media.command(self.shard, sfu::Command::Leave { peer });
        }
        removed.is_some()
    }

    /// Ends those who play somebody whose tracks have ended; their clients begin anew.
    pub(super) fn end_players_of(&mut self, of: &UserId, media: &Media) {
        self.end_players(media, |player| player.of == *of);
    }

    /// Ends those who play a medium of somebody that has begun anew: what they have agreed to is the track before.
    pub(super) fn end_players_of_medium(&mut self, of: &UserId, medium: sfu::Medium, media: &Media) {
        self.end_players(media, |player| player.of == *of && player.media.contains(&medium));
    }

    fn end_players(&mut self, media: &Media, ends: impl Fn(&Player) -> bool) {
        let shard = self.shard;
        self.players.retain(|peer, player| {
            let stays = !ends(player);
            if !stays {
                let _ = media.command(shard, sfu::Command::Leave { peer: *peer });
            }
            stays
        });
    }

    /// Whose connection has been away for too long.
    pub(super) fn players_gone(&self, now: Instant) -> Vec<sfu::PeerId> {
        let gone = |player: &Player| player.link.is_gone(now);
        self.players.iter().filter(|(_, player)| gone(player)).map(|(peer, _)| *peer).collect()
    }
}
