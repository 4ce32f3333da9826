/**
 * A client of the call for tests, in the page: one connection, perfect negotiation on the polite side, and figures of what
 * comes from whom. It knows the API's section on signaling and nothing of the product's own page.
 */
import { SCREEN, beeps, media } from "./sources.js";

/** How long the socket may take to say `joined`. */
const JOINED_WITHIN_MS = 20_000;

/** Three sizes of one picture. @type {RTCRtpEncodingParameters[]} */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4 },
  { rid: "h", scaleResolutionDownBy: 2 },
  { rid: "f", scaleResolutionDownBy: 1 },
];
/** What each may take of a camera, and of noise: that is more than the edge allows, and what it tells is the limit. */
const LAYER_MAX_BPS = { layers: 500_000, noise: 8_000_000 };

/** @typedef {{ address: string, port: number }} Way */

/**
 * @typedef {object} Wish
 * @property {string} url
 * @property {string} room
 * @property {string} user
 * @property {string} token
 * @property {"devices" | "layers" | "beeps" | "flashes" | "noise" | "none"} media
 * @property {string} [codec] of pictures
 * @property {RTCConfiguration} [ice]
 * @property {Way} [through] where alone the edge is to be met
 * @property {boolean} [asksForSound]
 */

export class Call {
  /** Every frame but the chatty ones, oldest first. @type {any[]} */
  frames = [];
  /** Whose stream a receiver plays. @type {Map<RTCRtpReceiver, string>} */
  from = new Map();
  /** What went wrong, for the test to look at. @type {string[]} */
  errors = [];
  /** @type {number | undefined} */
  closed;
  /** Sections that show a shared screen, or carry its sound. @type {RTCRtpTransceiver[]} */
  screens = [];
  /** How often an offer of the server met one of ours. */
  glares = 0;
  /** Our next offer is held until one of the server comes: then both are on their way. */
  crossing = false;
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
    const { url, token } = this.wish;
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
    this.socket.onopen = () => this.send("join", this.joined === undefined ? {} : { sessionId: this.joined.sessionId });
    setTimeout(() => joined.reject(new Error("not joined in time")), JOINED_WITHIN_MS);
    this.joined = await joined.promise;
    return this.joined;
  }

  /** Goes on with another socket, in the same place, and looks for new paths, as a page does when its network has changed. */
  async resume() {
    await this.join();
    this.pc.restartIce();
  }

  publish() {
    for (const [at, track] of this.stream.getTracks().entries()) {
      // Of noise the first picture is a camera in three layers, the second a screen.
      const maxBitrate = LAYER_MAX_BPS[this.wish.media];
      const inLayers = maxBitrate !== undefined && track.kind === "video" && at < 2;
      const layers = inLayers ? { sendEncodings: LAYERS.map((layer) => ({ ...layer, maxBitrate })) } : {};
      const transceiver = this.pc.addTransceiver(track, { direction: "sendonly", streams: [this.stream], ...layers });
      if (track.kind === "video" && this.wish.codec !== undefined) prefer(transceiver, this.wish.codec);
    }
  }

  async offer() {
    try {
      this.#making = true;
      await this.pc.setLocalDescription();
      if (!this.crossing) this.#sendOffer();
    } catch (error) {
      this.errors.push(`offer: ${error}`);
    } finally {
      this.#making = false;
    }
  }

  #sendOffer() {
    this.send("offer", { sdp: this.#said(this.pc.localDescription), screens: this.screens.map(({ mid }) => mid) });
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
      if (this.#making || this.pc.signalingState !== "stable") this.glares += 1;
      if (this.crossing) this.#sendOffer();
      this.crossing = false;
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

  /** What media are encrypted with, and how much the line is taken to carry, as the receiver's feedback tells; of Chromium alone. */
  async line() {
    const line = { cipher: "", carries: 0 };
    const all = await this.pc.getStats();
    all.forEach((stats) => {
      if (stats.type !== "transport") return;
      line.cipher = stats.srtpCipher;
      // Others may be nominated too, and tell nothing.
      line.carries = all.get(stats.selectedCandidatePairId)?.availableOutgoingBitrate ?? 0;
    });
    return line;
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

  /** What has come from whom so far: `{ann: {frames, packets, energy}}`, and how wide its last picture is. */
  async received() {
    /** @type {Record<string, { frames: number, width: number, packets: number, energy: number, codecs: string[] }>} */
    const sum = {};
    for (const [receiver, user] of this.from) {
      const one = (sum[user] ??= { frames: 0, width: 0, packets: 0, energy: 0, codecs: [] });
      const report = await receiver.getStats();
      report.forEach((stats) => {
        if (stats.type === "codec") one.codecs.push(stats.mimeType);
        if (stats.type !== "inbound-rtp") return;
        if (stats.kind === "video") [one.frames, one.width] = [one.frames + (stats.framesDecoded ?? 0), stats.frameWidth ?? 0];
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

  /**
   * Shares a screen, which flashes and beeps as the page does. Its sections rest when it is shared no more, and are used again.
   * @param {"audio" | "video"} [only] of it
   */
  share(only) {
    const stream = beeps("screenFlashes", SCREEN);
    for (const track of stream.getTracks().filter(({ kind }) => kind === (only ?? kind))) {
      const known = this.screens.find(({ receiver }) => receiver.track.kind === track.kind);
      if (known === undefined) {
        this.screens.push(this.pc.addTransceiver(track, { direction: "sendonly", streams: [stream] }));
      } else {
        void known.sender.replaceTrack(track);
        known.direction = "sendonly";
      }
    }
  }

  /** Bytes of pictures sent so far, headers and repeated ones included. */
  async sentBytes() {
    let sum = 0;
    (await this.pc.getStats()).forEach((stats) => {
      if (stats.type === "outbound-rtp" && stats.kind === "video") sum += stats.bytesSent + stats.headerBytesSent;
    });
    return sum;
  }

  /** Shares it no more. */
  unshare() {
    for (const section of this.screens) {
      section.sender.track?.stop();
      void section.sender.replaceTrack(null);
      section.direction = "inactive";
    }
  }

  /** What comes from somebody, as the ids of the server's tracks tell: `["audio", "video"]`. @param {string} user */
  mediaOf(user) {
    const sections = (this.pc.remoteDescription?.sdp ?? "").split(/\r?\n(?=m=)/).slice(1);
    const told = sections.filter((section) => /^a=(sendonly|sendrecv)\s*$/m.test(section)).map((section) => /^a=msid:(\S+) ([a-z-]+)-\d+\s*$/m.exec(section));
    return told.filter((one) => one?.[1] === user).map((one) => one?.[2]).sort();
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
  const stream = await media(wish.media);
  const call = new Call(wish, stream);
  window.call = call;
  const joined = await call.join();
  call.publish();
  return joined;
};
