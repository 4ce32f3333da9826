"""GStreamer publishes by WHIP (RFC 9725): its `webrtcbin` behind the few requests that make a client.

    whip_publisher.py ENDPOINT TOKEN

Trickles its candidates, and ends its session when standard input ends. Tells every exchange on standard output, a line of JSON at a
time. To be run by the system's Python, which GStreamer's bindings are built for.
"""

import json
import sys
import threading
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PIPELINE = """
    webrtcbin name=rtc bundle-policy=max-bundle
    audiotestsrc is-live=true wave=sine ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=111 ! queue
      ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! rtc.
    videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! videoconvert
      ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=30 error-resilient=partitions ! rtpvp8pay pt=96 picture-id-mode=15-bit ! queue
      ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! rtc.
"""
# The longest that a request may take, seconds.
REQUEST_MAX = 20


def tell(**what):
    print(json.dumps(what), flush=True)


class Publisher:
    """Everything but the requests' waiting happens in GLib's loop."""

    def __init__(self, endpoint, token):
        self.endpoint, self.token = endpoint, token
        self.session = self.etag = None
        self.candidates = []
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.parse_launch(PIPELINE)
        self.rtc = self.pipeline.get_by_name("rtc")
        for number in range(2):
            self.rtc.emit("get-transceiver", number).props.direction = GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY
        self.rtc.connect("on-negotiation-needed", self.offer)
        self.rtc.connect("on-ice-candidate", lambda _, line, candidate: GLib.idle_add(self.trickle, line, candidate))
        self.rtc.connect("notify::connection-state", lambda *_: tell(state=self.rtc.props.connection_state.value_nick))

    def run(self):
        threading.Thread(target=self.wait_for_the_end, daemon=True).start()
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)

    def wait_for_the_end(self):
        sys.stdin.read()
        GLib.idle_add(self.end)

    def request(self, method, url, body=None, **headers):
        """One request; its answer's status, headers and text."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["authorization"] = f"Bearer {self.token}"
        data = body.encode() if body is not None else None
        asked = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(asked, timeout=REQUEST_MAX) as answer:
            text = answer.read().decode()
            told = {name: answer.headers.get_all(name) for name in ("location", "etag", "link", "content-type")}
            tell(method=method, status=answer.status, headers=told)
            return answer.headers, text

    def offer(self, _):
        self.rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise, _):
        self.reply = promise.get_reply()  # The description is the reply's, and goes with it.
        offer = self.reply.get_value("offer")
        text = offer.sdp.as_text()
        self.rtc.emit("set-local-description", offer, None)
        GLib.idle_add(self.begin, text)

    def begin(self, offer):
        headers, answer = self.request("POST", self.endpoint, offer, content_type="application/sdp")
        self.session, self.etag = headers["location"], headers["etag"]
        self.ufrag = of(offer, "a=ice-ufrag:")
        self.password = of(offer, "a=ice-pwd:")
        _, sdp = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.rtc.emit("set-remote-description", description, None)
        for line, candidate in self.candidates:
            self.trickle(line, candidate)

    def trickle(self, line, candidate):
        """Sends one candidate (RFC 9725, section 4.3.1); before there is a session, it waits."""
        if self.session is None:
            self.candidates.append((line, candidate))
            return
        fragment = "\r\n".join([
            f"a=ice-ufrag:{self.ufrag}",
            f"a=ice-pwd:{self.password}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            f"a=mid:{'audio0' if line == 0 else 'video1'}",
            f"a={candidate}" if candidate else "a=end-of-candidates",
            "",
        ])
        self.request("PATCH", self.session, fragment, content_type="application/trickle-ice-sdpfrag", if_match=self.etag)

    def end(self):
        if self.session is not None:
            self.request("DELETE", self.session)
        self.loop.quit()


def of(sdp, name):
    """The value of an SDP line."""
    return next(line.removeprefix(name).strip() for line in sdp.splitlines() if line.startswith(name))


Gst.init(None)
Publisher(*sys.argv[1:]).run()
