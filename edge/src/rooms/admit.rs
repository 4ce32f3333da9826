//! Who may come into a call, and whether it lives on this edge.
//!
//! Decision: a call that was created without a list of participants is open to everybody who knows its id; one with a list is
//! for those on it, and for tokens whose grants name the call.

use chrono::TimeDelta;
use shared::call::{Call, CallState, Standing};
use shared::db::calls::{self, Settled};
use shared::id::{CallId, UserId};

use super::Rooms;
use crate::auth::{Caller, Right, Role};
use crate::error::{ApiError, Code};

/// An edge that has not been seen for this long has lost its calls: it says so every five seconds.
const EDGE_DEAD_AFTER: TimeDelta = TimeDelta::seconds(20);

/// Somebody who may sit down.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) call: CallId,
    pub(crate) user: UserId,
    pub(crate) host: UserId,
    /// How many may be in the call at once.
    pub(crate) max: usize,
    /// Whether their token grants it.
    pub(crate) publishing: Publishing,
}

/// Whether somebody may send media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// They may.
    Granted,
    /// They see and hear the others.
    Withheld,
}

impl Publishing {
    fn of(caller: &Caller, call: &CallId) -> Self {
        if caller.may(Right::Publish, call).is_ok() { Self::Granted } else { Self::Withheld }
    }
}

impl Rooms {
    /// Lets somebody in, or says why not. Somebody who sits there already is let in without the database.
    ///
    /// # Errors
    /// `not-granted`, `forbidden`, `no-such-call`, `call-ended`, `wrong-edge`, `database-unavailable`.
    pub(crate) async fn admit(&self, caller: &Caller, call: &CallId) -> Result<Admitted, ApiError> {
        caller.may(Right::Join, call)?;
        if let Some(known) = self.sits(call, caller) {
            return Ok(known);
        }
        let found = calls::find(&self.0.db, call).await?.ok_or_else(ApiError::no_such_call)?;
        if found.state == CallState::Ended {
            return Err(ApiError::new(Code::CallEnded, "the call has ended"));
        }
        self.must_be_let_in(caller, &found).await?;
        let dead_before = self.0.clock.now() - EDGE_DEAD_AFTER;
        let edge = self.0.starter.ingest.edge_id();
        match calls::settle(&self.0.db, call, edge, dead_before).await? {
            None => Err(ApiError::no_such_call()),
            Some(Settled::Elsewhere(url)) => Err(ApiError::wrong_edge(&url)),
            Some(Settled::Here) => Ok(Admitted {
                call: found.id,
                user: caller.user.clone(),
                host: found.host,
                max: found.max_participants as usize,
                publishing: Publishing::of(caller, call),
            }),
        }
    }

    async fn must_be_let_in(&self, caller: &Caller, call: &Call) -> Result<(), ApiError> {
        if caller.role == Role::Admin || caller.only_call() == Some(&call.id) {
            return Ok(());
        }
        let standing = calls::standing(&self.0.db, &call.id, &caller.user).await?;
        if matches!(standing, Some(Standing::Host | Standing::Participant)) {
            return Ok(());
        }
        let invited = calls::has_invitations(&self.0.db, &call.id).await?;
        if invited { Err(ApiError::forbidden("the call is for those who were invited")) } else { Ok(()) }
    }

    fn sits(&self, call: &CallId, caller: &Caller) -> Option<Admitted> {
        let state = self.0.state();
        let room = state.rooms.get(call)?;
        room.member(&caller.user)?;
        Some(Admitted {
            call: call.clone(),
            user: caller.user.clone(),
            host: room.host.clone(),
            max: room.max,
            publishing: Publishing::of(caller, call),
        })
    }
}
