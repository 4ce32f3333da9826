/**
 * @file The socket of a call: opens it, keeps it alive, opens it again, and hands over its frames one at a time.
 *
 * It must not know WebRTC, people or elements. A lost socket is no lost call: the server keeps the place of whoever comes
 * back within 15 s of their last word. A socket may die without a sign, so its silence and the pauses here together stay
 * well below that: it is noticed within 10.5 s of its last word, and the next one is opened at once.
 */
import { pauseMs } from "./retry.js";

/** @import { RetryPolicy } from "./retry.js" */

/** How often the server is asked whether it is there; a browser does not show its own pings to a page. */
export const PING_EVERY_MS = 2_500;
/** Silence after which a socket is given up, at the next ping: three answers are missing. The server allows its clients 15 s. */
export const SILENCE_MAX_MS = 8_000;
/** Pauses before the socket is opened again. Four seconds at most: three tries fit into the 15 s that a place is kept after a loss that is seen at once. */
export const RECONNECT = { baseMs: 300, maxMs: 4_000, diskFullBaseMs: 300, diskFullMaxMs: 4_000 };
/** Close codes after which coming back makes no sense (API, section 6). @type {Record<number, string>} */
const FINAL_CODES = { 4001: "replaced", 4002: "call-ended" };

/**
 * @typedef {{ type: string, roomId?: string, userId?: string, requestId?: string, data?: any }} Frame
 * @typedef {object} Listener
 * @property {() => void} opened A socket stands: join.
 * @property {(frame: Frame) => Promise<void> | void} frame The next frame comes after this one is done with.
 * @property {() => void} lost The socket is gone and will be opened again.
 * @property {(reason: string) => void} closed It is gone for good.
 * @typedef {object} Place
 * @property {string} url `wss://…/video-calls/ws`
 * @property {string} roomId
 * @property {string} userId Whom the token is for.
 * @property {(reason: "normal" | "rejected") => string | Promise<string>} token
 * @property {(url: string, protocols: string[]) => WebSocket} [open] Default: the browser's.
 * @property {RetryPolicy} [retry]
 */

export class Signaling {
  /** @type {Place} */ #place;
  /** @type {Listener} */ #listener;
  /** @type {WebSocket | undefined} */ #socket;
  /** Ends whatever belongs to the socket of now. */ #life = new AbortController();
  #failures = 0;
  #heardAt = 0;
  #retryAfterMs = 0;
  #closed = false;
  /** Frames wait here for the one before. @type {Promise<void>} */ #queue = Promise.resolve();

  /** @param {Place} place @param {Listener} listener */
  constructor(place, listener) {
    this.#place = place;
    this.#listener = listener;
  }

  /** Opens the socket. Whatever happens is told to the listener. */
  async connect() {
    const life = this.#renew();
    const later = setTimeout(() => this.#lose(life), SILENCE_MAX_MS); // neither opened nor refused
    life.signal.addEventListener("abort", () => clearTimeout(later));
    try {
      const token = await this.#place.token("normal");
      if (life.signal.aborted) return;
      const open = this.#place.open ?? ((url, protocols) => new WebSocket(url, protocols));
      this.#listen(open(this.#place.url, ["bearer", token]), life, later);
    } catch {
      this.#lose(life); // no token for now: the network is away
    }
  }

  /**
   * Sends a frame, if a socket stands. What is lost while none does is made good by whoever joins again.
   * @param {string} type
   * @param {unknown} [data]
   * @param {string} [requestId]
   */
  send(type, data, requestId) {
    if (this.#socket?.readyState !== 1) return;
    const { roomId, userId } = this.#place;
    this.#socket.send(JSON.stringify({ type, roomId, userId, requestId, data }));
  }

  /** The server cannot take us in just now: later, on a new socket. */
  again() {
    this.#lose(this.#life);
  }

  /** @param {number} ms The server goes away, and is back after this. */
  returnAfter(ms) {
    this.#retryAfterMs = ms;
  }

  /** Closes it for good. */
  close() {
    this.#closed = true;
    this.#drop();
  }

  /**
   * @param {WebSocket} socket
   * @param {AbortController} life
   * @param {ReturnType<typeof setTimeout>} later
   */
  #listen(socket, life, later) {
    const { signal } = life;
    this.#socket = socket;
    const opened = () => {
      clearTimeout(later);
      this.#heardAt = Date.now();
      const beating = setInterval(() => this.#beat(life), PING_EVERY_MS);
      signal.addEventListener("abort", () => clearInterval(beating));
      this.#listener.opened();
    };
    socket.addEventListener("open", opened, { signal });
    socket.addEventListener("message", ({ data }) => this.#take(String(data), signal), { signal });
    socket.addEventListener("close", ({ code }) => this.#gone(code, life), { signal });
  }

  /** @param {string} text @param {AbortSignal} signal */
  #take(text, signal) {
    this.#heardAt = Date.now();
    this.#failures = 0;
    const frame = /** @type {Frame} */ (JSON.parse(text));
    const handle = async () => (signal.aborted ? undefined : this.#listener.frame(frame));
    this.#queue = this.#queue.then(handle).catch((cause) => console.warn(`frame ${frame.type} failed`, cause));
  }

  /** @param {AbortController} life */
  #beat(life) {
    if (Date.now() - this.#heardAt >= SILENCE_MAX_MS) return this.#lose(life);
    this.send("ping");
  }

  /** @param {number} code @param {AbortController} life */
  #gone(code, life) {
    const reason = FINAL_CODES[code];
    if (reason === undefined) return this.#lose(life);
    this.close();
    this.#listener.closed(reason);
  }

  /** @param {AbortController} life */
  #lose(life) {
    if (life.signal.aborted || this.#closed) return;
    this.#drop();
    const waiting = this.#renew();
    this.#failures += 1;
    const pause = Math.max(this.#retryAfterMs, pauseMs(this.#failures, "retry", undefined, this.#place.retry ?? RECONNECT, Math.random()));
    this.#retryAfterMs = 0;
    this.#listener.lost();
    if (this.#closed || waiting.signal.aborted) return;
    const timer = setTimeout(() => void this.connect(), pause);
    waiting.signal.addEventListener("abort", () => clearTimeout(timer));
    globalThis.addEventListener?.("online", () => void this.connect(), { signal: waiting.signal });
  }

  /** A socket that is silent may take a minute to close: it is not waited for. */
  #drop() {
    this.#life.abort();
    this.#socket?.close();
    this.#socket = undefined;
  }

  #renew() {
    this.#life.abort();
    this.#life = new AbortController();
    return this.#life;
  }
}
