//! Rooms that are over, on their way to be forgotten by their media threads: a thread with too much to do is asked again, because
//! a tap that stays on keeps its recording from being sealed.

use std::collections::BTreeMap;

use shared::id::CallId;

use super::{Inner, State};
use crate::driver::{Media, Overloaded, ShardId};

/// The rooms whose threads could not be told yet; at most as many as there were rooms.
#[derive(Debug, Default)]
pub(super) struct Closing {
    untold: BTreeMap<CallId, ShardId>,
}

impl Closing {
    /// Ends a room on its thread, now or with [`Self::again`].
    ///
    /// # Errors
    /// When it is to be tried again.
    fn close(&mut self, media: &Media, call: CallId, shard: ShardId) -> Result<(), Overloaded> {
        end(media, &call, shard).inspect_err(|_| {
            self.untold.insert(call, shard);
        })
    }

    /// Tries again.
    ///
    /// # Errors
    /// When some are to be tried once more.
    fn again(&mut self, media: &Media) -> Result<(), Overloaded> {
        self.untold.retain(|call, shard| end(media, call, *shard).is_err());
        if self.untold.is_empty() { Ok(()) } else { Err(Overloaded) }
    }

    /// Whether a call's last room has not ended yet: another would be closed in its place.
    pub(super) fn has(&self, call: &CallId) -> bool {
        self.untold.contains_key(call)
    }
}

/// The tap goes first: that people leave because the room ends is no part of the recording. Both may be asked for twice.
fn end(media: &Media, call: &CallId, shard: ShardId) -> Result<(), Overloaded> {
    let room = sfu::RoomId::new(call.as_str());
    media.command(shard, sfu::Command::Record { room: room.clone(), tap: None })?;
    media.command(shard, sfu::Command::CloseRoom { room })
}

impl Inner {
    /// Everybody in a call's room goes, and the room with them.
    pub(super) fn close(&self, state: &mut State, call: &CallId) {
        let Some(mut room) = state.rooms.remove(call) else { return };
        room.close();
        if state.closing.close(&self.media, call.clone(), room.shard).is_err() {
            self.behind.notify_one();
        }
    }

    /// Tries again what a thread with too much to do has refused.
    pub(super) fn close_again(&self) {
        if self.state().closing.again(&self.media).is_err() {
            self.behind.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use sfu::Command;

    use super::*;

    #[test]
    fn a_room_that_an_overloaded_thread_did_not_close_is_closed_when_it_can_be() {
        for room_for in 0..2 {
            let (media, asked) = Media::idle(2);
            let shard = media.place();
            (room_for..2)
                .for_each(|_| media.command(shard, Command::Report { room: None, token: 0 }).unwrap());
            let (mut closing, call) = (Closing::default(), CallId::generate());
            assert_eq!(closing.close(&media, call.clone(), shard), Err(Overloaded));
            assert_eq!(closing.again(&media), Err(Overloaded), "nothing was taken");
            assert!(closing.has(&call), "no other room of the call begins before");
            asked.try_iter().for_each(drop);
            assert_eq!(closing.again(&media), Ok(()));
            let asked: Vec<Command> = asked.try_iter().collect();
            assert!(
                matches!(&asked[..], [Command::Record { tap: None, .. }, Command::CloseRoom { .. }]),
                "{asked:?}"
            );
            assert_eq!((closing.has(&call), closing.again(&media)), (false, Ok(())));
        }
    }
}
