//! The attempts that this process holds, from the claim until their outcome is written. Memory only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::attempt::{Running, StopReason};

/// Names one row of `job_attempts`: the fencing token of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttemptId(pub(super) i64);

/// At most the sum of all queues' concurrency, plus the outcomes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<HashMap<AttemptId, Arc<Running>>>);

impl Roster {
    pub(super) fn add(&self, id: AttemptId, running: Arc<Running>) {
        self.lock().insert(id, running);
    }

    pub(super) fn remove(&self, id: AttemptId) {
        self.lock().remove(&id);
    }

    pub(super) fn get(&self, id: AttemptId) -> Option<Arc<Running>> {
        self.lock().get(&id).cloned()
    }

    pub(super) fn snapshot(&self) -> Vec<(AttemptId, Arc<Running>)> {
        self.lock().iter().map(|(id, running)| (*id, Arc::clone(running))).collect()
    }

    pub(super) fn stop_all(&self, reason: StopReason) {
        for (_, running) in self.snapshot() {
            running.stop(reason);
        }
    }

    /// A panic while the lock is held cannot leave the map half changed, so a poisoned lock is as good as a clean one.
    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
