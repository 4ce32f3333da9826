/**
 * @file Offers and answers of one connection: "perfect negotiation" (W3C WebRTC 1.0, section 10.7) as the polite side.
 *
 * It must not know sockets or people: frames go out through `send`, and come in through {@link Negotiation.receive}, one
 * at a time. What a description says of its tracks is read here too, because nobody else needs to know SDP.
 */

/** @import { Frame } from "./signaling.js" */

/**
 * @typedef {"audio" | "video" | "screen" | "screen-audio"} Medium
 * @typedef {{ userId: string, medium: Medium }} Label Whose track it is, and what it shows.
 */

/** @type {readonly Medium[]} */
export const MEDIA = ["audio", "video", "screen", "screen-audio"];

export class Negotiation {
  /** @type {RTCPeerConnection} */ #connection;
  /** @type {(type: string, data: unknown) => void} */ #send;
  /** The m-lines that show a screen. @type {() => string[]} */ #screens;

  /**
   * @param {RTCPeerConnection} connection
   * @param {(type: string, data: unknown) => void} send
   * @param {() => string[]} screens
   */
  constructor(connection, send, screens) {
    this.#connection = connection;
    this.#send = send;
    this.#screens = screens;
    connection.addEventListener("negotiationneeded", () => void this.#offer());
    connection.addEventListener("icecandidate", ({ candidate }) => send("ice-candidate", { candidate }));
  }

  /**
   * Takes an offer, an answer or a candidate of the server.
   * @param {Frame} frame
   */
  async receive({ type, data }) {
    const connection = this.#connection;
    if (type === "ice-candidate") return connection.addIceCandidate(data?.candidate ?? undefined);
    const sdp = typeof data.sdp === "string" ? data.sdp : data.sdp.sdp;
    if (type === "answer") {
      // To an offer that was taken back: the next one will be answered too.
      if (connection.signalingState !== "have-local-offer") return;
      return connection.setRemoteDescription({ type: "answer", sdp: withDtx(sdp) });
    }
    // An offer of ours that is on its way is rolled back by the browser, which then asks for a new one.
    await connection.setRemoteDescription({ type: "offer", sdp });
    await connection.setLocalDescription();
    this.#send("answer", { sdp: askingForSound(connection.localDescription) });
  }

  /**
   * A new socket stands for the same session. What was on its way through the old one may be lost: an offer of ours is
   * taken back, and a fresh one with new candidates says everything again.
   */
  async resume() {
    if (this.#connection.signalingState === "have-local-offer") {
      await this.#connection.setLocalDescription({ type: "rollback" });
    }
    this.restart();
  }

  /** Looks for new paths; the browser asks for an offer by itself. */
  restart() {
    this.#connection.restartIce();
  }

  async #offer() {
    try {
      await this.#connection.setLocalDescription();
      const sdp = this.#connection.localDescription;
      // The server's offer may have come between: then this one is void, and asked for again.
      if (sdp?.type === "offer") this.#send("offer", { sdp: askingForSound(sdp), screens: this.#screens() });
    } catch (cause) {
      if (this.#connection.signalingState !== "closed") console.warn("no offer could be made", cause);
    }
  }
}

/**
 * Whose track each m-line carries: stream id = user, and the track's id is what it shows and a number. Read from the text
 * because a browser tells neither a changed label of an m-line used again, nor the new id of its track.
 * @param {string} sdp A description of the server.
 * @returns {Map<string, Label>} By m-line (mid); those that carry nothing are left out.
 */
export function labels(sdp) {
  /** @type {Map<string, Label>} */
  const found = new Map();
  for (const section of sdp.split(/\r?\n(?=m=)/).slice(1)) {
    const mid = /^a=mid:(\S+)/m.exec(section)?.[1];
    const [, userId, trackId] = /^a=msid:(\S+) (\S+)/m.exec(section) ?? [];
    const shows = /^(.+)-\d+$/.exec(trackId ?? "")?.[1];
    const medium = MEDIA.find((one) => one === shows);
    const sends = /^a=(sendonly|sendrecv)\s*$/m.test(section) && !/^m=\S+ 0 /.test(section);
    if (mid !== undefined && userId !== undefined && medium !== undefined && sends) found.set(mid, { userId, medium });
  }
  return found;
}

/**
 * A description of ours as the server shall see it: lost packets of sound may be asked for again, both ways (RFC 4585,
 * section 4.2). Browsers say it only of pictures. Once the server's description says it of sound too, Chromium does both for
 * it, and Firefox sends again what it is asked for.
 * @param {RTCSessionDescription | null} description
 */
function askingForSound(description) {
  return description && { type: description.type, sdp: withNack(description.sdp) };
}

/**
 * Says of Opus that lost packets may be asked for again.
 * @param {string} sdp
 */
export function withNack(sdp) {
  return sdp.replace(/^a=rtpmap:(\d+) opus\/.*$/gim, (line, payload, at) => {
    const [section] = sdp.slice(at).split(/^m=/m);
    return new RegExp(`^a=rtcp-fb:${payload} nack$`, "m").test(section) ? line : `${line}\r\na=rtcp-fb:${payload} nack`;
  });
}

/**
 * Asks the browser to send next to nothing while nobody speaks (Opus DTX; RFC 7587, section 6.1: the wish of the
 * receiving side, hence written into the answer).
 * @param {string} sdp
 */
export function withDtx(sdp) {
  const payloads = [...sdp.matchAll(/^a=rtpmap:(\d+) opus\//gim)].map(([, payload]) => payload);
  return payloads.reduce((text, payload) => {
    const line = new RegExp(`^(a=fmtp:${payload} (?!.*usedtx=)[^\\r\\n]*)`, "m");
    return text.replace(line, "$1;usedtx=1");
  }, sdp);
}
