/**
 * @file The three routes of the chunk protocol: put a chunk, ask what arrived, say that a track is complete.
 *
 * One request each, no retries: those are the uploader's. The token is asked for anew with every request, so that a
 * host page can refresh it.
 */
import { ApiError, networkError, readProblem } from "./problem.js";

/** @import { ChunkRow } from "./chunk-store.js" */

/** Longest a request may take. 10 MiB, the largest chunk, passes in it at 1.4 Mbit/s; a stalled network is noticed. */
export const REQUEST_TIMEOUT_MS = 60_000;

/**
 * @typedef {(reason: "normal" | "rejected") => string | Promise<string>} TokenSource Called before every request;
 *   with "rejected" after a 401, when the token it gave before must not be given again.
 * @typedef {{ participantId: string, kind: string, received: [number, number][], missing: (number | [number, number])[],
 *   bytes: number, lastSequence: number | null, complete: boolean }} TrackStatus
 */

export class ChunkRoutes {
  /**
   * @param {object} where
   * @param {string} where.baseUrl Origin of the edge, "" for the page's own.
   * @param {string} where.recordingId
   * @param {string} where.participantId
   * @param {string} where.kind
   * @param {TokenSource} where.token
   */
  constructor({ baseUrl, recordingId, participantId, kind, token }) {
    const segment = encodeURIComponent;
    this.recording = `${baseUrl}/video-calls/recording/${segment(recordingId)}`;
    this.track = `${this.recording}/participants/${segment(participantId)}/${segment(kind)}`;
    this.participantId = participantId;
    this.kind = kind;
    this.token = token;
  }

  /**
   * Resolves only when the server says that it holds exactly these bytes on stable storage.
   * @param {ChunkRow} chunk
   * @param {AbortSignal} signal
   */
  async put(chunk, signal) {
    const response = await this.#send("PUT", `${this.track}/chunks/${chunk.sequence}`, signal, chunk.bytes, {
      "content-type": chunk.mimeType,
      "content-digest": `sha-256=:${chunk.sha256}:`,
      "x-chunk-timestamp": String(Math.round(chunk.timestampMs)),
    });
    const answer = await data(response);
    if (answer.size !== chunk.size || !sameDigest(answer.sha256, chunk.sha256)) {
      throw new ApiError({
        code: "acknowledgement-mismatch",
        status: response.status,
        detail: `the server acknowledged other bytes than were sent as chunk ${chunk.sequence}`,
      });
    }
  }

  /**
   * What the server holds of this track; undefined when it has seen nothing yet.
   * @param {AbortSignal} signal
   * @returns {Promise<TrackStatus | undefined>}
   */
  async status(signal) {
    const answer = await data(await this.#send("GET", `${this.recording}/status`, signal));
    const tracks = /** @type {TrackStatus[]} */ (Array.isArray(answer) ? answer : (answer.tracks ?? []));
    return tracks.find((track) => track.participantId === this.participantId && track.kind === this.kind);
  }

  /**
   * @param {number} lastSequence
   * @param {AbortSignal} signal
   */
  async complete(lastSequence, signal) {
    const body = JSON.stringify({ lastSequence });
    await this.#send("POST", `${this.track}/complete`, signal, body, { "content-type": "application/json" });
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {AbortSignal} signal
   * @param {BodyInit} [body]
   * @param {Record<string, string>} [headers]
   * @returns {Promise<Response>}
   */
  async #send(method, url, signal, body, headers = {}) {
    const first = await this.#once("normal", method, url, signal, body, headers);
    const response = first.status === 401 ? await this.#once("rejected", method, url, signal, body, headers) : first;
    if (!response.ok) throw await readProblem(response);
    return response;
  }

  /**
   * @param {"normal" | "rejected"} reason
   * @param {string} method
   * @param {string} url
   * @param {AbortSignal} signal
   * @param {BodyInit | undefined} body
   * @param {Record<string, string>} headers
   */
  async #once(reason, method, url, signal, body, headers) {
    try {
      const authorization = `Bearer ${await this.token(reason)}`;
      return await fetch(url, { method, body, headers: { ...headers, authorization }, signal: inTime(signal) });
    } catch (cause) {
      throw cause instanceof ApiError ? cause : networkError(cause);
    }
  }
}

/**
 * Aborts with `signal`, or when the request has taken too long. `AbortSignal.any` would do, but Safari has it only since
 * 17.4 and Firefox since 124. The time runs on over the answer's body; abort after the end of a request is no abort.
 * @param {AbortSignal} signal
 */
function inTime(signal) {
  const both = new AbortController();
  const late = () => end(new DOMException("the request took too long", "TimeoutError"));
  const timer = setTimeout(late, REQUEST_TIMEOUT_MS);
  const closed = () => end(signal.reason);
  const end = (/** @type {unknown} */ reason) => {
    clearTimeout(timer);
    signal.removeEventListener("abort", closed);
    both.abort(reason);
  };
  signal.addEventListener("abort", closed);
  if (signal.aborted) closed();
  return both.signal;
}

/**
 * The payload of a success. A body that breaks off is a lost answer, thus worth a retry.
 * @param {Response} response
 */
async function data(response) {
  try {
    return (await response.json()).data;
  } catch (cause) {
    throw networkError(cause);
  }
}

/**
 * @param {unknown} answered Hex, as the API writes digests, or base64.
 * @param {string} base64
 */
function sameDigest(answered, base64) {
  if (typeof answered !== "string") return false;
  const hex = Array.from(atob(base64), (byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  return answered === base64 || answered.toLowerCase() === hex;
}

/**
 * @param {ArrayBuffer} bytes
 * @returns {Promise<string>} SHA-256 in base64.
 */
export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return btoa(String.fromCharCode(...digest));
}
