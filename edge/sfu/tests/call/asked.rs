//! Notes what a client is asked to send again: the library tells it to nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// How often packets of each SSRC were asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<BTreeMap<u32, u32>>>);

impl Asked {
    pub(crate) fn of(&self, ssrc: u32) -> u32 {
        self.0.lock().unwrap().get(&ssrc).copied().unwrap_or_default()
    }

    /// The part of a connection that notes it.
    pub(crate) fn noting(&self) -> Noting {
        Noting { asked: self.clone(), read: VecDeque::new(), written: VecDeque::new() }
    }
}

/// Lets everything pass.
pub(crate) struct Noting {
    asked: Asked,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Noting {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            let requests = packets.iter().filter_map(|it| it.as_any().downcast_ref::<TransportLayerNack>());
            for request in requests {
                *self.asked.0.lock().unwrap().entry(request.media_ssrc).or_default() += 1;
            }
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.written.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for Noting {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
