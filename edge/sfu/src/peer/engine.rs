//! What a connection can do: codecs, header extensions, ciphers, timeouts. Nothing here knows one connection from another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::shared::error::Error;

use crate::format;

use super::Factory;
use super::cipher::Cipher;
use super::exchange::Exchange;
use super::keys::{KeyTap, Keys};
use super::media::MediaTap;

/// Nothing heard for this long: the client is told lost. Two of its checks (every 2 s or so) have failed.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// And for this long after that: the connection is over, 15 s in all as the contract with clients says.
const FAILED_AFTER: Duration = Duration::from_secs(10);
/// How often we check that the client still agrees (RFC 7675 asks for 5 s at most).
const CONSENT_EVERY: Duration = Duration::from_secs(2);

/// Payload type, name, and format parameters of each codec of pictures, in our order of preference; the next payload type is its
/// retransmission's.
const PICTURES: [(u8, &str, &str); 9] = [
    (96, "video/VP8", ""),
    (98, "video/VP9", "profile-id=0"),
    (100, "video/VP9", "profile-id=2"),
    (102, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (104, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (106, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
    (108, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
    (112, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
    (114, "video/AV1", "profile-id=0"),
];

/// Extensions of sound and of pictures.
const EXTENSIONS: [(&str, bool, bool); 9] = [
    (format::MID, true, true),
    (format::RID, false, true),
    (format::REPAIRED_RID, false, true),
    (format::TRANSPORT_CC, true, true),
    (format::ABS_SEND_TIME, true, true),
    (format::ABS_CAPTURE_TIME, true, true),
    (format::AUDIO_LEVEL, true, false),
    (format::VIDEO_ORIENTATION, false, true),
    (format::PLAYOUT_DELAY, false, true),
];

/// How a connection differs from others.
pub(super) struct Wanted {
    pub(super) cipher: Cipher,
    /// User name fragment and password; made up when there are none.
    pub(super) credentials: Option<(String, String)>,
    /// Where the keys of media are put by the handshake.
    pub(super) keys: Keys,
}

/// A connection that has seen nothing yet.
pub(super) fn build(
    factory: &Factory,
    exchange: Exchange,
    wanted: Wanted,
    now: Instant,
) -> Result<RTCPeerConnection, Error> {
    let cipher = match wanted.cipher {
        Cipher::Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Cipher::CounterMode => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    };
    let mut settings = SettingEngineBuilder::new()
        .with_srtp_protection_profiles(vec![cipher])
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_crypto_provider(Arc::new(KeyTap::new(Arc::clone(&factory.provider), wanted.keys)))
        .with_ice_timeouts(Some(LOST_AFTER), Some(FAILED_AFTER), Some(CONSENT_EVERY));
    if let Some((ufrag, password)) = wanted.credentials {
        settings = settings.with_ice_credentials(ufrag, password);
    }
    let configuration =
        RTCConfigurationBuilder::new().with_certificates(vec![factory.certificate.clone()]).build();
    RTCPeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_media_engine(media_engine()?)
        .with_setting_engine(settings.build())
        .with_interceptor_registry(Registry::new().with(Slot::Custom(1), MediaTap::new(exchange)))
        .build(now)
}

fn media_engine() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    let opus =
        codec("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1", &[("nack", ""), ("transport-cc", "")]);
    engine
        .register_codec(RTCRtpCodecParameters { rtp_codec: opus, payload_type: 111 }, RtpCodecKind::Audio)?;
    for known in PICTURES {
        let payload_type = known.0;
        engine.register_codec(picture(known), RtpCodecKind::Video)?;
        let repair = codec("video/rtx", 90_000, 0, &format!("apt={payload_type}"), &[]);
        engine.register_codec(
            RTCRtpCodecParameters { rtp_codec: repair, payload_type: payload_type + 1 },
            RtpCodecKind::Video,
        )?;
    }
    for (uri, sound, picture) in EXTENSIONS {
        for (kind, wanted) in [(RtpCodecKind::Audio, sound), (RtpCodecKind::Video, picture)] {
            if wanted {
                engine.register_header_extension(
                    RTCRtpHeaderExtensionCapability { uri: uri.to_owned() },
                    kind,
                    None,
                )?;
            }
        }
    }
    Ok(engine)
}

/// All codecs of pictures, those first that can carry a stream of this one.
pub(super) fn pictures(first: &format::Codec) -> Vec<RTCRtpCodecParameters> {
    let mut all = PICTURES;
    all.sort_by_key(|(payload_type, mime, fmtp)| {
        let (mime, fmtp) = ((*mime).to_owned(), (*fmtp).to_owned());
        let known =
            format::Codec { payload_type: *payload_type, mime, clock_rate: 90_000, channels: 0, fmtp };
        !known.accepts(first)
    });
    all.map(picture).to_vec()
}

fn picture((payload_type, mime, fmtp): (u8, &str, &str)) -> RTCRtpCodecParameters {
    let feedback = [("ccm", "fir"), ("nack", ""), ("nack", "pli"), ("transport-cc", "")];
    RTCRtpCodecParameters { rtp_codec: codec(mime, 90_000, 0, fmtp, &feedback), payload_type }
}

fn codec(mime: &str, clock_rate: u32, channels: u16, fmtp: &str, feedback: &[(&str, &str)]) -> RTCRtpCodec {
    let feedback = feedback
        .iter()
        .map(|(typ, parameter)| RTCPFeedback { typ: (*typ).to_owned(), parameter: (*parameter).to_owned() });
    RTCRtpCodec {
        mime_type: mime.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: feedback.collect(),
    }
}
