"""GStreamer plays the VP8 in a pcap file of RTP, and tells how many pictures it decoded.

    pcap_player.py FILE

To be run by the system's Python, which GStreamer's bindings are built for.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

PIPELINE = """
    filesrc name=file ! pcapparse dst-port=5004 caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8
      ! rtpvp8depay ! vp8dec ! fakesink name=end sync=false signal-handoffs=true
"""
# The longest that playing may take, seconds.
PLAYED_WITHIN = 60


def play(path):
    pipeline = Gst.parse_launch(PIPELINE)
    pipeline.get_by_name("file").props.location = path
    decoded = []
    pipeline.get_by_name("end").connect("handoff", lambda _, picture, __: decoded.append(picture.pts))
    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(PLAYED_WITHIN * Gst.SECOND, wanted)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type == Gst.MessageType.ERROR:
        sys.exit("it goes on" if message is None else str(message.parse_error()))
    print(len(decoded))


Gst.init(None)
play(*sys.argv[1:])
