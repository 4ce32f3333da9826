/**
 * A client of the call for tests, in the page: one connection, perfect negotiation on the polite side, and figures of what
 * comes from whom. It knows the API's section on signaling and nothing of the product's own page.
 */

/** How long the socket may take to say `joined`. */
const JOINED_WITHIN_MS = 20_000;

/** @typedef {{ url: string, room: string, user: string, token: string, media: "devices" | "beeps" | "noise", codec?: string, session?: string, ice?: RTCConfiguration, through?: Way, asksForSound?: boolean }} Wish `through`: where alone the edge is to be met. */

/** @typedef {{ address: string, port: number }} Way */

/** More than the edge allows: what it tells is the limit. */
const LAYER_MAX_BPS = 8_000_000;
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: LAYER_MAX_BPS },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: LAYER_MAX_BPS },
  { rid: "f", maxBitrate: LAYER_MAX_BPS },
];

export class Call {
  /** Every frame but the chatty ones, oldest first. @type {any[]} */
  frames = [];
  /** Whose stream a receiver plays. @type {Map<RTCRtpReceiver, string>} */
  from = new Map();
  /** What went wrong, for the test to look at. @type {string[]} */
  errors = [];
  /** @type {number | undefined} */
  closed;
  #making = false;
  #chain = Promise.resolve();

  /** @param {Wish} wish @param {MediaStream} stream */
  constructor(wish, stream) {
    this.wish = wish;
    this.stream = stream;
    this.pc = new RTCPeerConnection(wish.ice);
    this.pc.ontrack = (event) => this.#play(event);
    this.pc.onicecandidate = ({ candidate }) => wish.through ?? this.send("ice-candidate", { candidate });
    this.pc.onnegotiationneeded = () => void this.offer();
  }

  /** Opens the socket, sits down and publishes. */
  async join() {
    const { url, token, session } = this.wish;
    this.socket = new WebSocket(`${url.replace(/^http/, "ws")}/video-calls/ws`, ["bearer", token]);
    const joined = Promise.withResolvers();
    this.socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "joined") joined.resolve(frame.data);
      this.#chain = this.#chain.then(() => this.#on(frame)).catch((error) => this.errors.push(`${frame.type}: ${error}`));
    };
    this.socket.onclose = ({ code }) => {
      this.closed = code;
      joined.reject(new Error(`the socket closed with ${code}`));
    };
    this.socket.onopen = () => this.send("join", session === undefined ? {} : { sessionId: session });
    setTimeout(() => joined.reject(new Error("not joined in time")), JOINED_WITHIN_MS);
    this.joined = await joined.promise;
    return this.joined;
  }

  publish() {
    for (const [at, track] of this.stream.getTracks().entries()) {
      // Of noise the first picture is a camera in three layers, the second a screen.
      const layers = this.wish.media === "noise" && at === 1 ? { sendEncodings: LAYERS } : {};
      const transceiver = this.pc.addTransceiver(track, { direction: "sendonly", streams: [this.stream], ...layers });
      if (track.kind === "video" && this.wish.codec !== undefined) prefer(transceiver, this.wish.codec);
    }
  }

  async offer() {
    try {
      this.#making = true;
      await this.pc.setLocalDescription();
      this.send("offer", { sdp: this.#said(this.pc.localDescription) });
    } catch (error) {
      this.errors.push(`offer: ${error}`);
    } finally {
      this.#making = false;
    }
  }

  /** @param {string} type @param {unknown} [data] */
  send(type, data) {
    const { room: roomId, user: userId } = this.wish;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, roomId, userId, data }));
  }

  /** @param {any} frame */
  async #on(frame) {
    if (frame.type === "quality") this.quality = frame.data.participants;
    else if (frame.type !== "active-speaker") this.frames.push(frame);
    if (frame.type === "offer") {
      if (this.#making || this.pc.signalingState !== "stable") this.glares = (this.glares ?? 0) + 1;
      await this.pc.setRemoteDescription(this.#read("offer", frame.data.sdp));
      await this.pc.setLocalDescription();
      this.send("answer", { sdp: this.#said(this.pc.localDescription) });
    } else if (frame.type === "answer" && this.pc.signalingState === "have-local-offer") {
      await this.pc.setRemoteDescription(this.#read("answer", frame.data.sdp));
    } else if (frame.type === "ice-candidate") {
      await this.pc.addIceCandidate(frame.data.candidate);
    } else if (frame.type === "error") {
      this.errors.push(`${frame.data.code}: ${frame.data.detail}`);
    }
  }

  /** A description of ours as the edge gets it. @param {RTCSessionDescription | null} description */
  #said(description) {
    const { through, asksForSound } = this.wish;
    if (description === null || (through === undefined && !asksForSound)) return description;
    const sound = asksForSound ? description.sdp.replace(/^a=rtpmap:(\d+) opus.*$/gim, "$&\r\na=rtcp-fb:$1 nack") : description.sdp;
    return { type: description.type, sdp: through === undefined ? sound : sound.replace(/^a=candidate:.*\r\n/gm, "") };
  }

  /** A description of the edge as the browser gets it. @param {RTCSdpType} type @param {any} given @returns {RTCSessionDescriptionInit} */
  #read(type, given) {
    const sdp = typeof given === "string" ? given : given.sdp;
    const { through } = this.wish;
    if (through === undefined) return { type, sdp };
    const met = `a=candidate:1 1 udp 2130706431 ${through.address} ${through.port} typ host`;
    return { type, sdp: sdp.replace(/^a=candidate:.*\r\n/gm, "").replace(/^a=end-of-candidates/m, `${met}\r\na=end-of-candidates`) };
  }

  /** Where the edge takes media, as it tells it. @returns {Way | undefined} */
  edge() {
    const [, address, port] = /^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host/m.exec(this.pc.remoteDescription?.sdp ?? "") ?? [];
    return address === undefined ? undefined : { address, port: Number(port) };
  }

  /** What became of sound: sent again, asked for again, received, and missing in the end. */
  async sound() {
    const sum = { repeated: 0, asked: 0, received: 0, lost: 0 };
    (await this.pc.getStats()).forEach((stats) => {
      if (stats.kind !== "audio") return;
      if (stats.type === "outbound-rtp") sum.repeated += stats.retransmittedPacketsSent ?? 0;
      if (stats.type !== "inbound-rtp") return;
      sum.asked += stats.nackCount ?? 0;
      sum.received += stats.packetsReceived;
      sum.lost += stats.packetsLost;
    });
    return sum;
  }

  /** @param {RTCTrackEvent} event */
  #play(event) {
    const [stream] = event.streams;
    this.from.set(event.receiver, stream?.id ?? "");
    const player = document.createElement(event.track.kind === "audio" ? "audio" : "video");
    Object.assign(player, { autoplay: true, muted: event.track.kind === "video", srcObject: new MediaStream([event.track]) });
    document.body.append(player);
    void player.play().catch(() => undefined);
  }

  /** What has come from whom so far: `{ann: {frames, packets, energy}}`. */
  async received() {
    /** @type {Record<string, { frames: number, packets: number, energy: number, codecs: string[] }>} */
    const sum = {};
    for (const [receiver, user] of this.from) {
      const one = (sum[user] ??= { frames: 0, packets: 0, energy: 0, codecs: [] });
      const report = await receiver.getStats();
      report.forEach((stats) => {
        if (stats.type === "codec") one.codecs.push(stats.mimeType);
        if (stats.type !== "inbound-rtp") return;
        if (stats.kind === "video") one.frames += stats.framesDecoded ?? 0;
        else [one.packets, one.energy] = [one.packets + stats.packetsReceived, one.energy + (stats.totalAudioEnergy ?? 0)];
      });
    }
    return sum;
  }

  /** Notes what has come so far; `grown` tells what has come since. */
  async note() {
    this.noted = await this.received();
  }

  /** Whether from each of them more pictures, packets and sound than that have come since `note`. @param {string[]} users */
  async grown(users) {
    const now = await this.received();
    const before = this.noted ?? {};
    return users.every((user) => {
      const [is, was] = [now[user], before[user] ?? { frames: 0, packets: 0, energy: 0 }];
      return is !== undefined && is.frames - was.frames >= 15 && is.packets - was.packets >= 50 && is.energy > was.energy;
    });
  }

  /** The name of the ICE session (RFC 8839, section 5.4). */
  fragment() {
    return /a=ice-ufrag:(\S+)/.exec(this.pc.localDescription?.sdp ?? "")?.[1];
  }

  /** Publishes one more picture: a screen. */
  more() {
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
    const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    let count = 0;
    // A picture that does not change is not sent.
    setInterval(() => paint.fillRect(count++ % 160, 0, 1, 120), 200);
    const stream = canvas.captureStream(5);
    this.pc.addTransceiver(stream.getTracks()[0], { direction: "sendonly", streams: [stream] });
  }

  /** Bytes of pictures sent so far, headers and repeated ones included. */
  async sentBytes() {
    let sum = 0;
    (await this.pc.getStats()).forEach((stats) => {
      if (stats.type === "outbound-rtp" && stats.kind === "video") sum += stats.bytesSent + stats.headerBytesSent;
    });
    return sum;
  }

  /** How many tracks of somebody flow to us now. @param {string} user */
  tracksOf(user) {
    const live = (/** @type {RTCRtpTransceiver} */ one) => ["recvonly", "sendrecv"].includes(one.currentDirection ?? "");
    return this.pc.getTransceivers().filter((one) => live(one) && this.from.get(one.receiver) === user).length;
  }

  /** For the report of a test that failed. */
  async told() {
    const { connectionState, iceConnectionState, signalingState } = this.pc;
    const types = this.frames.map((frame) => frame.type);
    const { errors, closed } = this;
    // What the server says that it sends to us.
    const sent = this.quality?.find((/** @type {any} */ one) => one.userId === this.wish.user)?.received;
    return { connectionState, iceConnectionState, signalingState, closed, errors, types, sent, received: await this.received(), noted: this.noted };
  }
}

/** @param {RTCRtpTransceiver} transceiver @param {string} mime */
function prefer(transceiver, mime) {
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  const is = (/** @type {RTCRtpCodec} */ codec) => codec.mimeType.toLowerCase() === mime.toLowerCase();
  transceiver.setCodecPreferences([...codecs.filter(is), ...codecs.filter((codec) => !is(codec))]);
}

/** What `join` of the window returns to the test. @param {Wish} wish */
window.join = async (wish) => {
  const stream = wish.media === "beeps" ? beeps(window) : wish.media === "noise" ? await noise() : await devices();
  const call = new Call(wish, stream);
  window.call = call;
  const joined = await call.join();
  call.publish();
  return joined;
};

function devices() {
  return navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240, frameRate: 15 } });
}

/** Sound, and two pictures that no encoder makes small. */
async function noise() {
  const [sound] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
  return new MediaStream([sound, ...[0, 1].map(() => flicker())]);
}

function flicker() {
  const [width, height] = [640, 360];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  setInterval(() => {
    for (let at = 0; at < 2_000; at++) {
      paint.fillStyle = `hsl(${Math.random() * 360} 90% ${Math.random() * 100}%)`;
      paint.fillRect(Math.random() * width, Math.random() * height, 12, 12);
    }
  }, 66);
  return canvas.captureStream(15).getVideoTracks()[0];
}

/** Every so often, by the wall clock, the page flashes and beeps. */
const PERIOD_MS = 2_000;
/** How long each time. */
const LASTS_MS = 200;
/** How far ahead beeps are put on the sound card's clock. */
const AHEAD_MS = 1_000;

/** White pictures and a tone of 1 kHz for `LASTS_MS` at every whole `PERIOD_MS` of the wall clock. @param {any} notes */
function beeps(notes) {
  // Kept over loads of the page.
  notes.flashes = JSON.parse(sessionStorage.getItem("flashes") ?? "[]");
  const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  document.body.append(canvas);
  const wall = () => performance.timeOrigin + performance.now();
  let lit = false;
  let count = 0;
  const draw = () => {
    const on = wall() % PERIOD_MS < LASTS_MS;
    if (on !== lit && (lit = on)) {
      notes.flashes.push(wall());
      sessionStorage.setItem("flashes", JSON.stringify(notes.flashes));
    }
    paint.fillStyle = on ? "#fff" : "#000";
    paint.fillRect(0, 0, canvas.width, canvas.height);
    // Something that changes, or no picture is taken.
    paint.fillStyle = "#888";
    paint.fillRect(count++ % canvas.width, 0, 4, 4);
    requestAnimationFrame(draw);
  };
  draw();
  const stream = canvas.captureStream(30);
  stream.addTrack(tone(wall));
  return stream;
}

/** @param {() => number} wall */
function tone(wall) {
  const context = new AudioContext({ latencyHint: "interactive" });
  const oscillator = new OscillatorNode(context, { frequency: 1_000 });
  const gain = new GainNode(context, { gain: 0 });
  const out = context.createMediaStreamDestination();
  oscillator.connect(gain).connect(out);
  oscillator.start();
  void context.resume();
  // The context's clock stands at the last block that was made: the smallest difference to the wall is the truest.
  let [behind, next] = [Number.POSITIVE_INFINITY, 0];
  const look = () => {
    if (context.currentTime === 0) return;
    behind = Math.min(behind + 0.01, wall() - context.currentTime * 1_000);
    if (next === 0) next = Math.ceil(wall() / PERIOD_MS + 0.1) * PERIOD_MS;
    while (next < wall() + AHEAD_MS) {
      gain.gain.setValueAtTime(0.5, (next - behind) / 1_000);
      gain.gain.setValueAtTime(0, (next + LASTS_MS - behind) / 1_000);
      next += PERIOD_MS;
    }
  };
  setInterval(look, 5);
  return /** @type {MediaStreamTrack} */ (out.stream.getAudioTracks()[0]);
}
