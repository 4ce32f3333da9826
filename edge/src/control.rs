//! Server-side capture: a room's tap on one side, the recording's capture on the other.
//!
//! | file | holds |
//! |---|---|
//! | `tap` | what the media thread calls |
//! | `queue` | what waits for the disk, bounded |
//! | `writer` | the task that writes it |

mod queue;
mod tap;
mod writer;

use shared::lifecycle::Tasks;

use crate::ingest::ServerCapture;
use queue::Queue;

/// Begins to write what the returned tap is given. The capture is held open until the tap is dropped and all is written.
pub(crate) fn begin(capture: ServerCapture, tasks: &Tasks) -> Box<dyn sfu::Tap> {
    let queue = Queue::default();
    tasks.spawn(writer::run(queue.clone(), capture, tasks.stop.clone()));
    Box::new(tap::RoomTap::new(queue))
}
