/**
 * The rules of a call without a network: what a description says, whose offer counts, what happens after a lost socket.
 * Sockets and connections are stand-ins that do what the specifications say of them; the real ones are in `../call.test.mjs`.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { beforeEach, test } from "node:test";
import { BROKEN_MAX_MS, CallClient } from "../../../edge/web/call.js";
import { deferred } from "../../../edge/web/gate.js";
import { labels, Negotiation, withDtx, withNack } from "../../../edge/web/negotiation.js";
import { PING_EVERY_MS } from "../../../edge/web/signaling.js";

/** How long the server keeps a place after its client's last word (API, section 6). */
const KEPT_MS = 15_000;

const OFFER = [
  "v=0", "a=group:BUNDLE 0 1 2 3",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=recvonly",
  "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=msid:bob video-7", "a=sendonly",
  "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:2", "a=msid:cyd screen-8", "a=inactive",
  "m=audio 0 UDP/TLS/RTP/SAVPF 111", "a=mid:3", "a=msid:cyd audio-9", "a=sendonly", "",
].join("\r\n");

/** A connection that negotiates as W3C WebRTC 1.0 says, with nothing behind it. */
class Connection extends EventTarget {
  signalingState = "stable";
  connectionState = "new";
  /** @type {{ type: string, sdp: string } | null} */ localDescription = null;
  remoteDescription = null;
  /** @type {any[]} */ transceivers = [];
  restarts = 0;
  closed = false;

  addTransceiver(track, init) {
    const transceiver = { mid: String(this.transceivers.length), direction: init.direction, init, sender: { track, replaceTrack: async (next) => void (transceiver.sender.track = next) }, receiver: { track: { id: `received-${this.transceivers.length}` } } };
    this.transceivers.push(transceiver);
    queueMicrotask(() => this.dispatchEvent(new Event("negotiationneeded")));
    return transceiver;
  }

  getTransceivers() {
    return this.transceivers;
  }

  async setLocalDescription(given) {
    const type = given?.type ?? (this.signalingState === "have-remote-offer" ? "answer" : "offer");
    this.localDescription = type === "rollback" ? null : { type, sdp: `v=0 ${type}` };
    this.signalingState = type === "offer" ? "have-local-offer" : "stable";
  }

  async setRemoteDescription({ type, sdp }) {
    if (type === "answer") assert.equal(this.signalingState, "have-local-offer");
    const rolledBack = type === "offer" && this.signalingState === "have-local-offer";
    this.remoteDescription = { type, sdp };
    this.signalingState = type === "offer" ? "have-remote-offer" : "stable";
    if (rolledBack) this.wanted = true;
  }

  restartIce() {
    this.restarts += 1;
    this.dispatchEvent(new Event("negotiationneeded"));
  }

  close() {
    this.closed = true;
    this.signalingState = "closed";
  }
}

/** A socket whose other side is the test. */
class Socket extends EventTarget {
  readyState = 0;
  /** @type {any[]} */ sent = [];
  send(text) {
    this.sent.push(JSON.parse(text));
    this.dispatchEvent(new Event("sent"));
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }
  say(type, data, more = {}) {
    this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ type, roomId: "r", data, ...more }) }));
  }
  end(code) {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code }));
  }
  /** The next frame of a type, or the first that was sent already. */
  async frame(type) {
    for (;;) {
      const found = this.sent.findIndex((frame) => frame.type === type);
      if (found >= 0) return this.sent.splice(found, 1)[0];
      await once(this, "sent");
    }
  }
}

/** @type {Socket[]} */ let sockets;
/** @type {Connection[]} */ let connections;
/** Tells of a new socket. */ let world;

beforeEach(() => {
  globalThis.MediaStream = /** @type {any} */ (class {});
  [sockets, connections, world] = [[], [], new EventTarget()];
});

const socketNumber = async (/** @type {number} */ n) => {
  while (sockets[n] === undefined) await once(world, "socket");
  return sockets[n];
};
const call = () => {
  const open = () => {
    sockets.push(new Socket());
    queueMicrotask(() => world.dispatchEvent(new Event("socket")));
    return sockets.at(-1);
  };
  const connect = () => (connections.push(new Connection()), connections.at(-1));
  const retry = { baseMs: 1, maxMs: 2, diskFullBaseMs: 1, diskFullMaxMs: 2 };
  return new CallClient(/** @type {any} */ ({ url: "ws://x", roomId: "r", userId: "ann", name: "Ann", token: () => "t", open, connect, retry }));
};
/** Resolves when the client is as wanted, looked at after each change. */
const until = async (client, test) => {
  while (!test()) await once(client, "change");
};
const joined = (more = {}) => ({ participants: [], recording: null, iceServers: [], sessionId: "s1", ...more });
const join = async (client, more) => {
  client.join();
  const socket = await socketNumber(0);
  socket.open();
  const asked = await socket.frame("join");
  socket.say("joined", joined(more), { requestId: asked.requestId });
  await until(client, () => client.state === "joined");
  return socket;
};

test("a description tells whose tracks flow, and leaves out those that do not", () => {
  assert.deepEqual([...labels(OFFER)], [["1", { userId: "bob", medium: "video" }]]);
  const sound = OFFER.replace("msid:bob video-", "msid:bob screen-audio-");
  assert.deepEqual([...labels(sound)], [["1", { userId: "bob", medium: "screen-audio" }]]);
});

test("silence is asked for once in each Opus payload of an answer", () => {
  const sdp = "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:96 VP8/90000\r\na=fmtp:96 x=1\r\n";
  const wanted = sdp.replace("useinbandfec=1", "useinbandfec=1;usedtx=1");
  assert.equal(withDtx(sdp), wanted);
  assert.equal(withDtx(wanted), wanted);
});

test("lost sound may be asked for again, said once in each section", () => {
  const sound = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n";
  const sdp = `v=0\r\n${sound}m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n${sound}`;
  const wanted = sdp.replaceAll("opus/48000/2\r\n", "opus/48000/2\r\na=rtcp-fb:111 nack\r\n");
  assert.equal(withNack(sdp), wanted);
  assert.equal(withNack(wanted), wanted);
});

test("on glare the client answers the server's offer, and drops the answer to its own", async () => {
  const connection = new Connection();
  /** @type {[string, any][]} */ const sent = [];
  const negotiation = new Negotiation(/** @type {any} */ (connection), (type, data) => void sent.push([type, data]), () => []);
  await connection.setLocalDescription();
  await negotiation.receive({ type: "offer", data: { sdp: { type: "offer", sdp: OFFER } } });
  assert.deepEqual(sent.map(([type]) => type), ["answer"]);
  assert.equal(connection.wanted, true, "the browser asks for the offer that was taken back");
  await negotiation.receive({ type: "answer", data: { sdp: "v=0 late" } });
  assert.equal(connection.signalingState, "stable");
});

test("who joins publishes a camera in three sizes, and names the m-lines of screens", async () => {
  const client = call();
  client.publish("video", /** @type {any} */ ({ kind: "video" }));
  const socket = await join(client);
  const offer = await socket.frame("offer");
  assert.deepEqual(offer.data.screens, []);
  assert.deepEqual(connections[0].transceivers[0].init.sendEncodings.map(({ rid }) => rid), ["q", "h", "f"]);
  client.publish("screen", /** @type {any} */ ({ kind: "video" }));
  assert.deepEqual((await socket.frame("offer")).data.screens, ["1"]);
  client.leave();
});

test("people come, mute, speak and go", async () => {
  const client = call();
  const notices = [];
  client.addEventListener("notice", ({ detail }) => notices.push(detail));
  const socket = await join(client, { participants: [{ userId: "bob", metadata: { name: "Bob" }, muted: ["audio"] }] });
  assert.deepEqual([...client.people.values()].map(({ name, muted }) => [name, ...muted]), [["Bob", "audio"]]);
  socket.say("participant-joined", { userId: "cyd", muted: [] }, { userId: "cyd" });
  socket.say("unmute", { userId: "bob", kind: "audio" }, { userId: "bob" });
  socket.say("mute", { userId: "cyd" }, { userId: "cyd" });
  socket.say("active-speaker", { userId: "bob" });
  await until(client, () => client.speaker === "bob");
  assert.deepEqual([...client.people.values()].map(({ name, muted }) => [name, ...muted]), [["Bob"], ["cyd", "audio", "video"]]);
  socket.say("participant-left", { userId: "bob", reason: "left" }, { userId: "bob" });
  await until(client, () => client.people.size === 1);
  assert.equal(client.speaker, undefined);
  assert.deepEqual(notices, [{ kind: "came", name: "cyd" }, { kind: "went", name: "Bob" }]);
  client.leave();
});

test("sizes of tiles are told, and again to a new session, but not of those who went", async () => {
  const client = call();
  const socket = await join(client, { participants: [{ userId: "bob", muted: [] }, { userId: "cyd", muted: [] }] });
  client.show("bob", "video", { width: 640, height: 360 });
  client.show("cyd", "screen", { width: 1280, height: 720 });
  client.show("bob", "video", { width: 320, height: 180 });
  const told = [await socket.frame("subscribe"), await socket.frame("subscribe"), await socket.frame("subscribe")];
  assert.deepEqual(told.map(({ data }) => data.size.height), [360, 720, 180]);
  socket.say("participant-left", { userId: "cyd", reason: "left" }, { userId: "cyd" });
  await until(client, () => client.people.size === 1);
  socket.end(1006);
  const next = await socketNumber(1);
  next.open();
  const asked = await next.frame("join");
  next.say("joined", joined({ sessionId: "s2" }), { requestId: asked.requestId });
  assert.deepEqual((await next.frame("subscribe")).data, { userId: "bob", kind: "video", size: { width: 320, height: 180 } });
  assert.equal(next.sent.some(({ type }) => type === "subscribe"), false);
  client.leave();
});

test("a recording is told when one joins, when it starts and when it stops", async () => {
  const client = call();
  const socket = await join(client, { recording: "rec_1" });
  assert.equal(client.recording, "rec_1");
  socket.say("recording-stopped", { recordingId: "rec_1" });
  await until(client, () => client.recording === undefined);
  socket.say("recording-started", { recordingId: "rec_2" });
  await until(client, () => client.recording === "rec_2");
  client.leave();
});

test("a lost socket takes its session up again: same connection, new paths, mutes told again", async () => {
  const client = call();
  const first = await join(client);
  client.mute("audio");
  first.end(1006);
  assert.equal(client.state, "reconnecting");
  const second = await socketNumber(1);
  second.open();
  const asked = await second.frame("join");
  assert.equal(asked.data.sessionId, "s1");
  second.say("joined", joined(), { requestId: asked.requestId });
  assert.deepEqual((await second.frame("mute")).data, { kind: "audio" });
  assert.equal((await second.frame("offer")).type, "offer");
  assert.equal(connections.length, 1);
  assert.equal(connections[0].restarts, 1);
  client.leave();
});

test("a socket that dies without a sign is noticed while the server still keeps the place", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const client = call();
  const first = await join(client);
  for (let beat = 0; beat < 20; beat += 1) {
    t.mock.timers.tick(PING_EVERY_MS);
    await first.frame("ping");
    first.say("pong");
  }
  assert.equal(client.state, "joined", "a server that answers is not given up");
  const step = 100;
  let silence = 0;
  for (; sockets.length < 2; silence += step) {
    assert.ok(silence < KEPT_MS, "the place is given away");
    t.mock.timers.tick(step);
    await Promise.resolve(); // the token of the next socket
  }
  // The server hears the last ping, or none since the one before.
  assert.ok(silence + PING_EVERY_MS <= KEPT_MS, `${silence} ms`);
  sockets[1].open();
  assert.equal((await sockets[1].frame("join")).data.sessionId, "s1");
  client.leave();
});

test("a place that was given away is a new join: a new connection publishes everything again", async () => {
  const client = call();
  client.publish("audio", /** @type {any} */ ({ kind: "audio" }));
  (await join(client)).end(1006);
  const second = await socketNumber(1);
  second.open();
  await second.frame("join");
  second.say("joined", joined({ sessionId: "s2" }));
  await second.frame("offer");
  assert.deepEqual(connections.map(({ closed, transceivers }) => [closed, transceivers.length]), [[true, 1], [false, 1]]);
  client.leave();
});

test("a refusal that no retry changes ends the call; another one does not", async () => {
  const client = call();
  client.join();
  const first = await socketNumber(0);
  first.open();
  await first.frame("join");
  first.say("error", { code: "database-unavailable", detail: "later" }, { requestId: "join" });
  const second = await socketNumber(1);
  second.open();
  await second.frame("join");
  second.say("error", { code: "room-full", detail: "the call takes 2 people" }, { requestId: "join" });
  await until(client, () => client.state === "ended");
  assert.deepEqual([client.reason, client.detail], ["room-full", "the call takes 2 people"]);
});

test("who joins elsewhere is not fought over, and who leaves says so", async () => {
  const client = call();
  const socket = await join(client);
  socket.end(4001);
  assert.deepEqual([client.state, client.reason, sockets.length], ["ended", "replaced", 1]);
  const other = call();
  sockets.length = 0;
  const theirs = await join(other);
  other.leave();
  assert.equal((await theirs.frame("leave")).type, "leave");
  assert.equal(other.state, "ended");
});

test("a failed path is no end: the call is joined anew, in a new session", async () => {
  const client = call();
  client.publish("audio", /** @type {any} */ ({ kind: "audio" }));
  await join(client);
  connections[0].connectionState = "failed";
  connections[0].dispatchEvent(new Event("connectionstatechange"));
  assert.equal(client.path, "broken");
  const second = await socketNumber(1);
  second.open();
  assert.equal((await second.frame("join")).data.sessionId, undefined);
  second.say("joined", joined({ sessionId: "s2" }));
  await second.frame("offer");
  connections[1].connectionState = "connected";
  connections[1].dispatchEvent(new Event("connectionstatechange"));
  assert.equal(client.path, "standing");
  client.leave();
});

test("a path that breaks for a while is looked for anew by the same connection", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const client = call();
  await join(client);
  connections[0].connectionState = "disconnected";
  connections[0].dispatchEvent(new Event("connectionstatechange"));
  assert.deepEqual([client.path, connections[0].restarts], ["broken", 0]);
  t.mock.timers.tick(BROKEN_MAX_MS);
  assert.equal(connections[0].restarts, 1);
  client.leave();
});

test("a connection that the server has given up is not mended for long: the call is joined anew", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const client = call();
  const socket = await join(client);
  socket.say("error", { code: "invalid-description", detail: "one address too many" });
  socket.say("active-speaker", { userId: "bob" });
  await until(client, () => client.speaker === "bob");
  connections[0].connectionState = "disconnected";
  connections[0].dispatchEvent(new Event("connectionstatechange"));
  t.mock.timers.tick(BROKEN_MAX_MS);
  await socket.frame("offer");
  assert.equal(client.state, "joined");
  socket.say("error", { code: "invalid-description", detail: "this connection has failed" });
  await until(client, () => client.state === "reconnecting");
  t.mock.timers.tick(2);
  const second = await socketNumber(1);
  second.open();
  assert.equal((await second.frame("join")).data.sessionId, undefined);
  client.leave();
});

test("frames are worked on one after the other", async () => {
  const client = call();
  const socket = await join(client);
  const [connection] = connections;
  /** @type {string[]} */ const order = [];
  const held = deferred();
  connection.setRemoteDescription = async () => {
    order.push("offer begins");
    await held.promise;
    connection.signalingState = "have-remote-offer";
    order.push("offer ends");
  };
  client.addEventListener("change", () => client.speaker && order.push("speaker"));
  socket.say("offer", { sdp: OFFER });
  socket.say("active-speaker", { userId: "bob" });
  held.resolve();
  await until(client, () => client.speaker === "bob");
  assert.deepEqual(order, ["offer begins", "offer ends", "speaker"]);
  client.leave();
});
