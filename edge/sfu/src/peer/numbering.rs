//! Transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01): one count over all streams of a
//! connection, by which the receiver tells how packets arrive.
//!
//! The library numbers media alone. Here retransmissions are numbered too: they fill the path as media do, and probes consist
//! of nothing else.

use std::collections::HashMap;

use bytes::Bytes;
use rtc::interceptor::StreamInfo;

use crate::format::TRANSPORT_CC;
use crate::packet::Packet;

/// The count, and which streams bear it under which extension id.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    next: u16,
    ids: HashMap<u32, u8>,
    /// Streams with retransmissions, and the SSRC of these.
    repairs: HashMap<u32, u32>,
}

/// The number of a packet that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbered {
    Now(u16),
    /// It has left with this number before.
    Before(u16),
    /// The receiver wants none.
    Not,
}

impl Numbering {
    /// A stream of ours was agreed on.
    pub(super) fn bind(&mut self, info: &StreamInfo) {
        if let Some(repair) = info.ssrc_rtx {
            self.repairs.insert(info.ssrc, repair);
        }
        let extension = info.rtp_header_extensions.iter().find(|extension| extension.uri == TRANSPORT_CC);
        if let Some(id) = extension.and_then(|extension| u8::try_from(extension.id).ok()) {
            for ssrc in std::iter::once(info.ssrc).chain(info.ssrc_rtx) {
                self.ids.insert(ssrc, id);
            }
        }
    }

    /// A stream of ours is no more.
    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        self.ids.remove(&info.ssrc);
        if let Some(repair) = self.repairs.remove(&info.ssrc) {
            self.ids.remove(&repair);
        }
    }

    /// Numbers a packet, if the receiver wants it. One that has a number is sent again as it was.
    pub(super) fn number(&mut self, packet: &mut Packet) -> Numbered {
        let Some(id) = self.ids.get(&packet.ssrc) else { return Numbered::Not };
        if let Some((_, value)) = packet.extensions.iter().find(|(known, _)| known == id) {
            return value[..]
                .try_into()
                .map_or(Numbered::Not, |value| Numbered::Before(u16::from_be_bytes(value)));
        }
        let number = self.next;
        packet.extensions.push((*id, Bytes::copy_from_slice(&number.to_be_bytes())));
        self.next = number.wrapping_add(1);
        Numbered::Now(number)
    }

    /// Whether packets of a stream can be sent again on another.
    pub(super) fn is_repaired(&self, ssrc: u32) -> bool {
        self.repairs.contains_key(&ssrc)
    }
}

#[cfg(test)]
mod tests {
    use rtc::interceptor::RTPHeaderExtension;

    use super::*;

    #[test]
    fn media_and_retransmissions_share_one_count() {
        let mut numbering = Numbering::default();
        let extension = RTPHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: 5 };
        let info = StreamInfo {
            ssrc: 1,
            ssrc_rtx: Some(2),
            rtp_header_extensions: vec![extension],
            ..StreamInfo::default()
        };
        numbering.bind(&info);
        let packet = |ssrc| Packet {
            marker: false,
            payload_type: 96,
            sequence: 0,
            timestamp: 0,
            ssrc,
            extensions: Vec::new(),
            payload: Bytes::new(),
        };
        let mut number = |ssrc| {
            let mut packet = packet(ssrc);
            (numbering.number(&mut packet), packet.extensions)
        };
        assert_eq!(number(1), (Numbered::Now(0), vec![(5, Bytes::from_static(&[0, 0]))]));
        assert_eq!(number(2), (Numbered::Now(1), vec![(5, Bytes::from_static(&[0, 1]))]));
        assert_eq!(number(3), (Numbered::Not, Vec::new()));
        let mut packet = packet(1);
        assert_eq!(numbering.number(&mut packet), Numbered::Now(2));
        let sent = packet.clone();
        assert_eq!((numbering.number(&mut packet), packet), (Numbered::Before(2), sent), "again, as it was");
        assert!(numbering.is_repaired(1) && !numbering.is_repaired(2));
        numbering.unbind(&info);
        assert!(numbering.ids.is_empty() && numbering.repairs.is_empty());
    }
}
