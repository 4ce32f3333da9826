"""Somebody in a call without a browser: aiortc, a WebRTC of its own in Python, that publishes a tone and moving pictures.

    participant.py EDGE CALL USER TOKEN          joins by the API's section on signaling
    participant.py EDGE CALL USER TOKEN WHOM     plays somebody by WHEP instead

Tells on standard output, a line of JSON at a time, how it stands; leaves when standard input ends.
"""

import asyncio
import itertools
import json
import math
import re
import struct
import sys

import aiohttp
import av
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack

# It tells how it stands with each so many frames of a track, and with everything else that changes.
TELL_EVERY_FRAMES = 8
# Frames that do not change how it stands.
CHATTER = ("quality", "active-speaker")
WIDTH, HEIGHT = 320, 240
TONE_HZ = 440


class Tone(AudioStreamTrack):
    """A sine, in the rhythm of the library's own track, which is silent."""

    async def recv(self):
        frame = await super().recv()
        angles = (2 * math.pi * TONE_HZ * (frame.pts + at) / frame.sample_rate for at in range(frame.samples))
        frame.planes[0].update(struct.pack(f"<{frame.samples}h", *(int(8000 * math.sin(angle)) for angle in angles)))
        return frame


class Picture(VideoStreamTrack):
    """Grey that grows brighter from row to row, and moves."""

    shown = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        self.shown += 1
        for number, plane in enumerate(frame.planes):
            rows = range(plane.height)
            grey = (bytes([(row + self.shown) % 256 if number == 0 else 128]) * plane.line_size for row in rows)
            plane.update(b"".join(grey))
        frame.pts, frame.time_base = pts, time_base
        return frame


class Participant:
    def __init__(self):
        self.connection = RTCPeerConnection()
        self.connection.on("track", self.play)
        self.frames = []
        self.errors = []
        self.received = {}
        self.counting = []
        self.link = None
        self.changed = asyncio.Event()
        self.connection.on("connectionstatechange", self.changed.set)

    def play(self, track):
        """Counts what comes of a track: samples of sound, pictures."""
        self.counting.append(asyncio.ensure_future(self.count(track)))

    async def count(self, track):
        for number in itertools.count():
            try:
                frame = await track.recv()
            except Exception:  # The track has ended; the library tells it by one of several errors.
                return
            of = self.received.setdefault(self.publisher(track), {"audio": 0, "video": 0})
            of[track.kind] += frame.samples if track.kind == "audio" else 1
            if number % TELL_EVERY_FRAMES == 0:
                self.changed.set()

    def publisher(self, track):
        """Whose it is: the stream's id, which the library keeps in the description alone."""
        sdp = self.connection.remoteDescription.sdp
        found = re.search(rf"^a=msid:(\S+) {re.escape(track.id)}\s*$", sdp, re.MULTILINE)
        return found[1] if found else "?"

    def told(self):
        return {
            "state": self.connection.connectionState,
            "signaling": self.connection.signalingState,
            "frames": [frame["type"] for frame in self.frames],
            "errors": self.errors,
            "received": self.received,
            "link": self.link,
        }

    async def close(self):
        await self.connection.close()
        for counting in self.counting:
            counting.cancel()


class Seat:
    """A place in a call, by the WebSocket. The library cannot take an offer back: it lets the server's wait for its own answer."""

    def __init__(self, participant, socket, call, user):
        self.participant, self.socket, self.call, self.user = participant, socket, call, user

    async def send(self, kind, data=None):
        await self.socket.send_json({"type": kind, "roomId": self.call, "userId": self.user, "data": data})

    async def sit(self):
        connection = self.participant.connection
        await self.send("join", {})
        for track in (Tone(), Picture()):
            connection.addTransceiver(track, direction="sendonly")
        async for message in self.socket:
            frame = json.loads(message.data)
            try:
                await self.take(frame)
            except Exception as error:
                self.participant.errors.append(f"{frame['type']}: {error!r}")

    async def take(self, frame):
        connection, kind, data = self.participant.connection, frame["type"], frame.get("data")
        if kind not in CHATTER:
            self.participant.frames.append(frame)
            self.participant.changed.set()
        if kind == "joined":
            await connection.setLocalDescription(await connection.createOffer())
            await self.describe("offer")
        elif kind == "offer" and connection.signalingState == "stable":
            await connection.setRemoteDescription(RTCSessionDescription(**data["sdp"]))
            await connection.setLocalDescription(await connection.createAnswer())
            await self.describe("answer")
        elif kind == "answer":
            await connection.setRemoteDescription(RTCSessionDescription(**data["sdp"]))
        elif kind == "error":
            self.participant.errors.append(data["code"])
            self.participant.changed.set()

    async def describe(self, kind):
        description = self.participant.connection.localDescription
        await self.send(kind, {"sdp": {"type": description.type, "sdp": description.sdp}})


async def join(edge, call, user, token, participant, leave):
    headers = {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{edge}/video-calls/ws", headers=headers) as socket:
        seat = Seat(participant, socket, call, user)
        sitting = asyncio.ensure_future(seat.sit())
        await leave
        await seat.send("leave")
        sitting.cancel()


async def watch(edge, call, whom, token, participant, leave):
    connection, headers = participant.connection, {"authorization": f"Bearer {token}"}
    for kind in ("audio", "video"):
        connection.addTransceiver(kind, direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    async with aiohttp.ClientSession(headers=headers) as http:
        path = f"{edge}/video-calls/{call}/whep/{whom}"
        sdp = {"content-type": "application/sdp"}
        async with http.post(path, data=connection.localDescription.sdp, headers=sdp) as answer:
            assert answer.status == 201, await answer.text()
            participant.link = answer.headers.getall("link", [])
            participant.changed.set()
            session = answer.headers["location"]
            await connection.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        await leave
        async with http.delete(session) as ended:
            assert ended.status == 200, await ended.text()


async def main(edge, call, user, token, whom=None):
    participant = Participant()
    leave = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def tell():
        while True:
            print(json.dumps(participant.told()), flush=True)
            await participant.changed.wait()
            participant.changed.clear()

    telling = asyncio.ensure_future(tell())
    try:
        if whom is None:
            await join(edge, call, user, token, participant, leave)
        else:
            await watch(edge, call, whom, token, participant, leave)
    finally:
        telling.cancel()
        await participant.close()


asyncio.run(main(*sys.argv[1:]))
