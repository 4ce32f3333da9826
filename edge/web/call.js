/**
 * @file A call as a client sees it: who is there, what they show, what this client publishes, whether it is recorded.
 *
 * One RTCPeerConnection carries both directions. It must not know elements: views read its fields at every `change`, and
 * read out every `notice`. To use it elsewhere, take `signaling.js`, `negotiation.js` and `retry.js` along.
 *
 * A lost socket is opened again and the session taken up; media flows meanwhile, if the network lets it. Where the server
 * has given the place away, the call is joined anew, with what was published before.
 */
import { labels, MEDIA, Negotiation } from "./negotiation.js";
import { Signaling } from "./signaling.js";

/** @import { Medium } from "./negotiation.js" */
/** @import { Frame, Place } from "./signaling.js" */

/** How long a broken path may heal by itself before another one is looked for: a change of networks takes 1 to 3 s. */
export const BROKEN_MAX_MS = 3_000;
/** How long a path may be looked for before the call is joined anew; over a bad line, ICE and DTLS take some 5 s. */
export const CONNECTING_MAX_MS = 15_000;
/** Refusals that no later try changes; after any other, the call is joined again. */
const FINAL_REFUSALS = new Set(["forbidden", "not-granted", "user-mismatch", "no-such-call", "call-ended", "room-full", "wrong-edge", "invalid-request"]);
/** What the answer to a join carries back. */
const JOIN = "join";

/**
 * Three sizes of the camera's picture, so that the server can give everybody what their line takes. The figures are
 * what 180p, 360p and 720p at 30 frames need in VP8.
 * @type {RTCRtpEncodingParameters[]}
 */
const CAMERA = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
/** Text must stay readable: more bits, one size. @type {RTCRtpEncodingParameters[]} */
const SCREEN = [{ maxBitrate: 2_500_000 }];

/**
 * @typedef {"idle" | "joining" | "joined" | "reconnecting" | "ended"} CallState
 * @typedef {"audio" | "video"} Mutable
 * @typedef {Partial<Record<Medium, MediaStreamTrack>>} Tracks
 * @typedef {{ width: number, height: number }} Size In pixels of the device.
 * @typedef {{ userId: string, name: string, muted: Set<Mutable>, tracks: Tracks }} Person
 * @typedef {{ kind: "came" | "went" | "recording-started" | "recording-paused" | "recording-resumed" | "recording-stopped", name: string }} Notice
 * @typedef {Place & { name: string, connect?: (configuration: RTCConfiguration) => RTCPeerConnection }} Options
 *   `name` is what the others see.
 */

export class CallClient extends EventTarget {
  /** @type {CallState} */ state = "idle";
  /** Why it ended: `left`, `replaced`, `call-ended`, or the server's code. */ reason = "";
  /** For people. */ detail = "";
  /** The others, by user id, in the order in which they came. @type {Map<string, Person>} */ people = new Map();
  /** The recording that is on. @type {string | undefined} */ recording;
  /** What is said now is in no file. */ recordingPaused = false;
  /** Whether sound and picture flow. @type {"none" | "looking" | "standing" | "broken"} */ path = "none";
  /** Who speaks; may be this client's own user. @type {string | undefined} */ speaker;
  /** What this client has muted. @type {Set<Mutable>} */ muted = new Set();
  /** @type {Options} */ #options;
  /** @type {Signaling} */ #signaling;
  /** @type {RTCPeerConnection | undefined} */ #connection;
  /** @type {Negotiation | undefined} */ #negotiation;
  /** @type {string | undefined} */ #sessionId;
  /** @type {Tracks} */ #published = {};
  /** @type {Partial<Record<Medium, RTCRtpTransceiver>>} */ #senders = {};
  /** Keeps what is published together. @type {MediaStream | undefined} */ #stream;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #broken;
  /** Of the server's latest offer, by m-line. @type {ReturnType<typeof labels>} */ #labels = new Map();
  /** How large pictures are shown here, by user and medium. @type {Map<string, { userId: string, kind: Medium, size: Size }>} */ #sizes = new Map();

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#signaling = new Signaling(options, {
      opened: () => this.#join(),
      frame: (frame) => this.#on(frame),
      lost: () => this.#set({ state: this.state === "joining" ? "joining" : "reconnecting" }),
      closed: (reason) => this.#end(reason),
    });
  }

  /** Enters the call; whether it worked is told by `state`. */
  join() {
    this.#set({ state: "joining", reason: "", detail: "" });
    void this.#signaling.connect();
  }

  /** Leaves it for good. */
  leave() {
    if (this.state === "ended") return;
    this.#signaling.send("leave");
    this.#end("left");
  }

  /**
   * Publishes a track, or another in its place, or none.
   * @param {Medium} medium
   * @param {MediaStreamTrack | undefined} track
   */
  publish(medium, track) {
    if (this.#published[medium] === track) return;
    if (track === undefined) delete this.#published[medium];
    else this.#published[medium] = track;
    this.#attach(medium);
    this.#changed();
  }

  /** @param {Mutable} kind Told to the others and to the recording. Who mutes also ends or disables the track. */
  mute(kind) {
    this.muted.add(kind);
    this.#signaling.send("mute", { kind });
    this.#changed();
  }

  /** @param {Mutable} kind */
  unmute(kind) {
    this.muted.delete(kind);
    this.#signaling.send("unmute", { kind });
    this.#changed();
  }

  /**
   * Tells how large somebody's picture is shown, so that the server sends no larger one than is seen.
   * @param {string} userId
   * @param {Exclude<Medium, "audio">} kind
   * @param {Size} size
   */
  show(userId, kind, size) {
    const wish = { userId, kind, size };
    this.#sizes.set(`${userId}/${kind}`, wish);
    if (this.state === "joined") this.#signaling.send("subscribe", wish);
  }

  /** What this client publishes. @returns {Readonly<Tracks>} */
  get published() {
    return this.#published;
  }

  /** For looking into: statistics, tests. */
  get connection() {
    return this.#connection;
  }

  #join() {
    this.#signaling.send("join", { metadata: { name: this.#options.name }, sessionId: this.#sessionId }, JOIN);
  }

  /** @param {Frame} frame */
  async #on(frame) {
    const { type, data } = frame;
    if (type === "joined") return this.#joined(data);
    if (type === "error") return this.#refused(frame);
    if (type === "offer" || type === "answer" || type === "ice-candidate") {
      if (frame.userId !== undefined) return; // of another person, who wants to connect directly: not done here
      await this.#negotiation?.receive(frame);
      return type === "offer" ? this.#relabel() : undefined;
    }
    if (type === "draining") return this.#signaling.returnAfter(Number(data?.retryAfterMs) || 0);
    if (type === "room-closed") return this.#end("call-ended");
    this.#told(frame);
  }

  /** What happened in the room. @param {Frame} frame */
  #told({ type, userId = "", data }) {
    const person = this.people.get(userId);
    if (type === "participant-joined") this.#came(data);
    else if (type === "participant-left" && person !== undefined) this.#went(person);
    else if (type === "mute") for (const kind of kinds(data)) person?.muted.add(kind);
    else if (type === "unmute") for (const kind of kinds(data)) person?.muted.delete(kind);
    else if (type === "active-speaker") this.speaker = data?.userId ?? undefined;
    else if (type.startsWith("recording-")) this.#recordingTold(type, data);
    else return;
    this.#changed();
  }

  /** @param {any} data */
  #joined({ participants, recording, recordingPaused, iceServers, sessionId }) {
    this.people = new Map(participants.map((/** @type {any} */ data) => [data.userId, person(data)]));
    this.#assign();
    this.#records(recording ?? undefined, recordingPaused === true);
    const resumed = sessionId === this.#sessionId && this.#connection !== undefined;
    this.#sessionId = sessionId;
    this.#set({ state: "joined" });
    for (const kind of this.muted) this.#signaling.send("mute", { kind });
    for (const wish of this.#sizes.values()) this.#signaling.send("subscribe", wish);
    if (!resumed) return this.#connect({ iceServers, bundlePolicy: "max-bundle" });
    for (const kind of /** @type {Mutable[]} */ (["audio", "video"])) if (!this.muted.has(kind)) this.#signaling.send("unmute", { kind });
    return this.#negotiation?.resume();
  }

  /** @param {Frame} frame */
  #refused({ requestId, data }) {
    if (requestId !== JOIN) {
      console.warn(`the server refused a frame: ${data?.code}`, data?.detail);
      // What was to mend a path is refused by a server that has given the connection up.
      return data?.code === "invalid-description" && this.path === "broken" ? this.#renew() : undefined;
    }
    if (!FINAL_REFUSALS.has(data.code)) return this.#signaling.again();
    this.#signaling.close();
    this.detail = data.detail;
    this.#end(data.code);
  }

  /** @param {any} data */
  #came(data) {
    const newcomer = person(data);
    this.people.set(newcomer.userId, newcomer);
    this.#assign();
    this.#notice({ kind: "came", name: newcomer.name });
  }

  /** @param {Person} person */
  #went(person) {
    this.people.delete(person.userId);
    for (const kind of MEDIA) this.#sizes.delete(`${person.userId}/${kind}`);
    if (this.speaker === person.userId) this.speaker = undefined;
    this.#notice({ kind: "went", name: person.name });
  }

  /** @param {string} type @param {any} data */
  #recordingTold(type, data) {
    const mine = data?.recordingId === this.recording;
    if (type === "recording-started") this.#records(data?.recordingId, false);
    else if (type === "recording-stopped" && mine) this.#records(undefined, false);
    else if ((type === "recording-paused" || type === "recording-resumed") && mine) this.recordingPaused = type === "recording-paused";
    else return; // its file is the list's matter
    this.#notice({ kind: /** @type {Notice["kind"]} */ (type), name: "" });
  }

  /** @param {string | undefined} recording @param {boolean} paused */
  #records(recording, paused) {
    this.recording = recording;
    this.recordingPaused = paused;
  }

  /** @param {RTCConfiguration} configuration */
  #connect(configuration) {
    this.#disconnect();
    const make = this.#options.connect ?? ((given) => new RTCPeerConnection(given));
    const connection = make(configuration);
    this.#connection = connection;
    this.#stream = new MediaStream();
    const send = (/** @type {string} */ type, /** @type {unknown} */ data) => (connection === this.#connection ? this.#signaling.send(type, data) : undefined);
    this.#negotiation = new Negotiation(connection, send, () => (this.#senders.screen?.mid ? [this.#senders.screen.mid] : []));
    connection.addEventListener("connectionstatechange", () => this.#pathChanged(connection));
    for (const medium of /** @type {Medium[]} */ (Object.keys(this.#published))) this.#attach(medium);
  }

  #disconnect() {
    clearTimeout(this.#broken);
    this.#connection?.close();
    this.#connection = this.#negotiation = undefined;
    this.#senders = {};
    this.#labels = new Map();
    this.#assign();
  }

  /** Makes what is sent of a medium what is published of it. The browser asks for an offer where one is needed. @param {Medium} medium */
  #attach(medium) {
    const track = this.#published[medium];
    const sender = this.#senders[medium];
    if (this.#connection === undefined) return;
    if (sender === undefined) return track && void (this.#senders[medium] = this.#add(this.#connection, medium, track));
    void sender.sender.replaceTrack(track ?? null).catch((cause) => console.warn(`${medium} is not sent`, cause));
    // A camera that is off comes back soon and keeps its m-line; a screen that is not shown is gone for everybody.
    if (medium === "screen") sender.direction = track === undefined ? "inactive" : "sendonly";
  }

  /**
   * @param {RTCPeerConnection} connection
   * @param {Medium} medium
   * @param {MediaStreamTrack} track
   */
  #add(connection, medium, track) {
    const streams = this.#stream === undefined ? [] : [this.#stream];
    const init = /** @type {RTCRtpTransceiverInit} */ ({ direction: "sendonly", streams });
    const sendEncodings = { audio: undefined, video: CAMERA, screen: SCREEN, "screen-audio": undefined }[medium];
    if (sendEncodings === undefined) return connection.addTransceiver(track, init);
    try {
      return connection.addTransceiver(track, { ...init, sendEncodings });
    } catch {
      return connection.addTransceiver(track, init); // a browser without simulcast sends one size
    }
  }

  /** What the server sends has changed; only its offers tell that. */
  #relabel() {
    this.#labels = labels(this.#connection?.remoteDescription?.sdp ?? "");
    this.#assign();
    this.#changed();
  }

  /** Gives the tracks to their people: either may come first. */
  #assign() {
    for (const person of this.people.values()) person.tracks = {};
    for (const { mid, receiver } of this.#connection?.getTransceivers() ?? []) {
      const label = mid === null ? undefined : this.#labels.get(mid);
      const person = label && this.people.get(label.userId);
      if (label !== undefined && person !== undefined) person.tracks[label.medium] = receiver.track;
    }
  }

  /** @param {RTCPeerConnection} connection */
  #pathChanged(connection) {
    if (connection !== this.#connection) return;
    clearTimeout(this.#broken);
    const state = connection.connectionState;
    if (state === "connected") this.path = "standing";
    else if (state === "connecting") this.#wait("looking", CONNECTING_MAX_MS, () => this.#renew());
    else if (state === "disconnected") this.#wait("broken", BROKEN_MAX_MS, () => this.#restart());
    else if (state === "failed") this.#renew();
    this.#changed();
  }

  /** @param {"looking" | "broken"} path @param {number} ms @param {() => void} then */
  #wait(path, ms, then) {
    this.path = this.path === "broken" ? "broken" : path; // until it stands again
    this.#broken = setTimeout(then, ms);
  }

  /** Without a socket nothing is done: joining again looks for new paths anyhow. */
  #restart() {
    if (this.state === "joined") this.#negotiation?.restart();
  }

  /** The server has given a failed connection up, so it cannot be mended: in again, in one's own place. */
  #renew() {
    this.path = "broken";
    if (this.state !== "joined") return;
    this.#sessionId = undefined;
    this.#signaling.again();
  }

  /** @param {string} reason */
  #end(reason) {
    if (this.state === "ended") return;
    this.#signaling.close();
    this.#disconnect();
    this.people = new Map();
    this.#records(undefined, false);
    this.speaker = undefined;
    this.path = "none";
    this.#set({ state: "ended", reason });
  }

  /** @param {Notice} detail */
  #notice(detail) {
    this.dispatchEvent(new CustomEvent("notice", { detail }));
  }

  /** @param {Partial<Pick<CallClient, "state" | "reason" | "detail">>} facts */
  #set(facts) {
    Object.assign(this, facts);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Somebody as the server tells of them.
 * @param {any} data
 * @returns {Person}
 */
function person({ userId, metadata, muted = [] }) {
  const name = typeof metadata?.name === "string" && metadata.name.trim() !== "" ? metadata.name : userId;
  return { userId, name, muted: new Set(muted), tracks: {} };
}

/** A mute without a kind is of both. @param {any} data @returns {Mutable[]} */
function kinds(data) {
  return data?.kind ? [data.kind] : ["audio", "video"];
}
