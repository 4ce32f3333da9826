//! Transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01): one count over all streams of a
//! connection, by which the receiver tells how packets arrive.
//!
//! The library numbers media alone. Here retransmissions are numbered too: they fill the path as media do, and probes consist
//! of nothing else.

use std::collections::HashMap;

use bytes::Bytes;
use rtc::interceptor::StreamInfo;
use rtc::rtp::header::Header;

use crate::format::TRANSPORT_CC;

/// The count, and which streams bear it under which extension id.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    next: u16,
    ids: HashMap<u32, u8>,
    /// Streams with retransmissions, and the SSRC of these.
    repairs: HashMap<u32, u32>,
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
    pub(super) fn number(&mut self, header: &mut Header) -> Option<u16> {
        let id = self.ids.get(&header.ssrc)?;
        if self.borne(header).is_some() {
            return None;
        }
        let number = self.next;
        header.set_extension(*id, Bytes::copy_from_slice(&number.to_be_bytes())).ok()?;
        self.next = number.wrapping_add(1);
        Some(number)
    }

    /// The number that a packet bears already.
    pub(super) fn borne(&self, header: &Header) -> Option<u16> {
        let value = header.get_extension(*self.ids.get(&header.ssrc)?)?;
        Some(u16::from_be_bytes(value[..].try_into().ok()?))
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
        let mut number = |ssrc| {
            let mut header = Header { ssrc, ..Header::default() };
            let number = numbering.number(&mut header);
            (number, header.get_extension(5).map(|value| value.to_vec()))
        };
        assert_eq!(number(1), (Some(0), Some(vec![0, 0])));
        assert_eq!(number(2), (Some(1), Some(vec![0, 1])));
        assert_eq!(number(3), (None, None));
        let mut header = Header { ssrc: 1, ..Header::default() };
        assert_eq!(numbering.number(&mut header), Some(2));
        let sent = header.clone();
        assert_eq!((numbering.number(&mut header), header), (None, sent), "again, as it was");
        assert!(numbering.is_repaired(1) && !numbering.is_repaired(2));
        numbering.unbind(&info);
        assert!(numbering.ids.is_empty() && numbering.repairs.is_empty());
    }
}
