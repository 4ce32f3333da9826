/**
 * @file Records a MediaStream into a Callreel recording, and loses nothing that it once had in hand.
 *
 * What it guarantees:
 * - Every blob is in IndexedDB, under its sequence number, before its upload begins, and is removed only after the
 *   server has confirmed its size and SHA-256: a closed tab, a crash, a lost network or a restarted server lose
 *   nothing that the recorder has announced as recorded. A crash costs at most the last timeslice (1 s).
 * - A sequence number is never used twice, over reloads too: a new session goes on after the highest number that this
 *   browser has given or the server has seen.
 * - Only one tab at a time works on a (recording, kind): a Web Lock.
 * - The backlog is bounded. When the bound is reached recording stops with `backlog-full`; nothing is dropped.
 * - What cannot be uploaded (conflict, not live, forbidden, deleted) is told and kept until `discard()`.
 *
 * Usage, with a recording that the host has started (`POST …/recording/start`):
 *
 *     import { Recorder, unfinishedTracks } from "./recorder.js";
 *
 *     const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
 *     const recorder = await Recorder.open({
 *       recordingId, participantId: userId, kind: "video",
 *       token: (reason) => (reason === "rejected" ? refreshToken() : currentToken),
 *     });
 *     recorder.on("progress", ({ recordedMs, pendingBytes }) => show(recordedMs, pendingBytes));
 *     recorder.on("error", ({ code, detail }) => warn(code, detail));
 *     await recorder.start(stream);
 *     stopButton.onclick = async () => {
 *       await recorder.stop();                             // all chunks are acknowledged now
 *       await fetch(`/video-calls/${callId}/recording/stop`, { method: "POST", headers });
 *     };
 *     // After a reload: for (const track of await unfinishedTracks()) Recorder.open(…same ids…), then start() or stop().
 *
 * It must not know the page: no elements, no router, no API beyond the chunk routes.
 */
import { CaptureSession } from "./capture-session.js";
import { ChunkRoutes, sha256 } from "./chunk-routes.js";
import { openChunkStore, unfinishedTracks } from "./chunk-store.js";
import { deferred, persist } from "./gate.js";
import { ApiError } from "./problem.js";
import { backlogLimit, lock, numbers } from "./recorder-support.js";
import { DEFAULT_POLICY } from "./retry.js";
import { Uploader, asApiError } from "./uploader.js";

export { ApiError, unfinishedTracks };

/** @import { Captured } from "./capture-session.js" */
/** @import { TrackStatus } from "./chunk-routes.js" */
/** @import { ChunkStore, Pending, TrackRow } from "./chunk-store.js" */
/** @import { Progress, RecorderEvents, RecorderOptions, RecorderState, StateEvent } from "./recorder-support.js" */

/** Larger blobs are cut: the server takes 10 MiB a chunk, and iOS may hand over the whole recording as one blob. */
export const CHUNK_MAX_BYTES = 8 * 1024 ** 2;
/** Blobs that may wait to be written. At one a second this is half a minute of a disk that does not answer. */
export const UNWRITTEN_MAX = 32;
/** How long a start waits to hear which numbers the server holds. */
export const SYNC_WAIT_MS = 10_000;

export class Recorder {
  /** @type {RecorderState} */ #state = "ready";
  /** @type {RecorderOptions} */ #options;
  /** @type {ChunkStore} */ #store;
  /** @type {TrackRow} */ #track;
  /** @type {ChunkRoutes} */ #routes;
  /** @type {Uploader} */ #uploader;
  /** @type {() => void} */ #unlock;
  /** @type {number} */ #backlogMaxBytes;
  /** @type {CaptureSession | undefined} */ #session;
  /** @type {Promise<void>} */ #writes = Promise.resolve();
  #unwritten = 0;
  #pendingChunks = 0;
  #pendingBytes = 0;
  /** @type {number | null} */ #lastAckAt = null;
  /** Media of the sessions before the present one. */ #earlierMs = 0;
  /** @type {Promise<void>} */ #synced = Promise.resolve();
  /** @type {Promise<void> | undefined} */ #stopping;
  #page = new AbortController();
  /** @type {{ [T in keyof RecorderEvents]: Set<(detail: RecorderEvents[T]) => void> }} */
  #listeners = { progress: new Set(), state: new Set(), error: new Set() };

  /**
   * Opens the track, and begins at once to upload what an earlier tab has left.
   * @param {RecorderOptions} options
   * @returns {Promise<Recorder>}
   * @throws {ApiError} `open-elsewhere` when another tab works on this track.
   */
  static async open(options) {
    const unlock = await lock(`callreel-recorder:${options.recordingId}:${options.kind}`);
    try {
      // Best effort, and not waited for: Firefox asks the person, who may never answer.
      navigator.storage?.persist?.().catch(() => false);
      const store = await openChunkStore(options.recordingId, options.kind);
      const { recordingId, participantId, kind, labels = {} } = options;
      const fresh = { nextSequence: 0, recordedMs: 0, recordedBytes: 0, state: /** @type {const} */ ("open") };
      const track = (await store.track()) ?? { recordingId, participantId, kind, labels, ...fresh };
      const pending = await store.pending();
      return new Recorder(options, store, track, pending, await backlogLimit(options), unlock);
    } catch (cause) {
      unlock();
      throw asApiError(cause);
    }
  }

  /**
   * Use {@link Recorder.open}.
   * @param {RecorderOptions} options
   * @param {ChunkStore} store
   * @param {TrackRow} track
   * @param {Pending[]} pending
   * @param {number} backlogMaxBytes
   * @param {() => void} unlock
   */
  constructor(options, store, track, pending, backlogMaxBytes, unlock) {
    this.#options = options;
    this.#store = store;
    this.#track = track;
    this.#unlock = unlock;
    this.#backlogMaxBytes = backlogMaxBytes;
    this.#earlierMs = track.recordedMs;
    this.#routes = new ChunkRoutes({ baseUrl: "", ...options });
    this.#uploader = new Uploader(store, this.#routes, options.retry ?? DEFAULT_POLICY, {
      acknowledged: (chunk) => this.#acknowledged(chunk),
      changed: () => this.#announce(),
      blocked: (error) => this.#refused(error),
    });
    for (const chunk of pending) this.#count(chunk.size);
    this.#uploader.add(pending);
    this.#watchPage();
    this.#sync();
  }

  get state() { return this.#state; }

  /** @returns {StateEvent} */
  get status() {
    const { state, blockedBy, gate } = this.#uploader;
    return { state: this.#state, upload: state, uploadError: blockedBy ?? gate.closedBy };
  }

  /** @returns {Progress} */
  get progress() {
    return {
      recordedMs: Math.round(this.#earlierMs + (this.#session?.elapsedMs ?? 0)),
      recordedChunks: this.#track.nextSequence,
      recordedBytes: this.#track.recordedBytes,
      pendingChunks: this.#pendingChunks,
      pendingBytes: this.#pendingBytes,
      lastAckAt: this.#lastAckAt,
    };
  }

  /**
   * @template {keyof RecorderEvents} T
   * @param {T} type
   * @param {(detail: RecorderEvents[T]) => void} listener
   * @returns {() => void} Ends the subscription.
   */
  on(type, listener) {
    this.#listeners[type].add(listener);
    return () => this.#listeners[type].delete(listener);
  }

  /**
   * Begins to record; after a reload, goes on under the next free number as a new MediaRecorder session.
   * @param {MediaStream} stream
   */
  async start(stream) {
    if (this.#state !== "ready") throw new ApiError({ code: "wrong-state", status: 0, detail: `cannot record while ${this.#state}` });
    await this.#numbersKnown();
    const session = new CaptureSession(stream, this.#options, {
      captured: (piece) => this.#captured(piece),
      ended: (reason, detail) => this.#ended(reason, detail),
    });
    await this.#store.putTrack({ ...this.#track, state: "open" });
    this.#session = session; // before the first blob can come
    await session.start();
    this.#enter("recording");
  }

  /**
   * Ends the recording of this track: the last blob is taken, everything is uploaded, `complete` is answered. May
   * take as long as the network is away. After a rejection everything is still kept, and `stop()` may be called again.
   * @returns {Promise<void>}
   */
  stop() {
    this.#stopping ??= this.#finish().finally(() => (this.#stopping = undefined));
    return this.#stopping;
  }

  /** Tries again now, after an error that stopped the uploads or instead of waiting for the pause to end. */
  retry() {
    this.#uploader.retry();
    this.#sync();
  }

  /** Gives up this track: stops, and deletes what was not uploaded. */
  async discard() {
    await this.#endSession();
    this.#uploader.close();
    this.#pendingChunks = this.#pendingBytes = 0;
    await this.#store.clear().finally(() => this.#leave("closed"));
  }

  /** Lets go of the track without finishing it; what is stored can be opened again. */
  async close() {
    await this.#endSession();
    this.#leave("closed");
  }

  async #finish() {
    if (this.#state === "complete" || this.#state === "closed") return;
    this.#enter("stopping");
    await this.#endSession();
    await this.#synced; // a browser that lost its storage learns the last number from the server
    this.#track = { ...this.#track, state: "stopped" };
    if (this.#track.nextSequence > 0) await this.#store.putTrack(this.#track);
    await this.#uploader.drained();
    if (this.#track.nextSequence > 0) await this.#complete(this.#track.nextSequence - 1);
    await this.#store.clear();
    this.#leave("complete");
  }

  /** @param {number} lastSequence */
  async #complete(lastSequence) {
    const { gate, signal } = this.#uploader;
    try {
      await persist(() => this.#routes.complete(lastSequence, signal), gate, signal);
    } catch (cause) {
      const error = asApiError(cause);
      if (error.code === "recording-not-live") return; // sealed already, and every chunk was acknowledged before
      this.#fail(error, true);
      throw error;
    }
  }

  /** Asks what the server holds, so that no number is used twice and nothing lost goes unnoticed. */
  #sync() {
    const { gate, signal } = this.#uploader;
    this.#synced = persist(() => this.#routes.status(signal), gate, signal).then((held) => this.#learn(held));
    this.#synced.catch((cause) => this.#uploader.block(asApiError(cause)));
  }

  /** @param {TrackStatus | undefined} held */
  async #learn(held) {
    if (held === undefined) return;
    const last = held.received.reduce((max, [, to]) => Math.max(max, to), held.lastSequence ?? -1);
    this.#track = { ...this.#track, nextSequence: Math.max(this.#track.nextSequence, last + 1) };
    const kept = new Set((await this.#store.pending()).map((chunk) => chunk.sequence));
    const lost = numbers(held.missing).filter((sequence) => sequence <= last && !kept.has(sequence));
    if (lost.length === 0 || this.#session !== undefined) return;
    const detail = `chunks ${lost.join(", ")} are neither on the server nor in this browser`;
    this.#fail(new ApiError({ code: "chunks-evicted", status: 0, detail }), false);
  }

  /** Without an answer in time the local count decides, if there is one: every number this browser gave is in it. */
  async #numbersKnown() {
    const late = new ApiError({ code: "network", status: 0, detail: "the server does not answer; recording was not started" });
    const timeout = deferred();
    const timer = setTimeout(() => timeout.reject(late), SYNC_WAIT_MS);
    try {
      await Promise.race([this.#synced, timeout.promise]);
    } catch (cause) {
      if (cause !== late || this.#track.nextSequence === 0) throw cause;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {Captured} piece */
  #captured(piece) {
    this.#unwritten += 1;
    this.#writes = this.#writes
      .then(() => this.#keep(piece))
      .catch((cause) => this.#halt(asApiError(cause)))
      .finally(() => (this.#unwritten -= 1));
    if (this.#unwritten > UNWRITTEN_MAX) {
      this.#halt(new ApiError({ code: "storage-stalled", status: 0, detail: "this browser's storage does not keep up; recording stops" }));
    }
  }

  /** @param {Captured} piece */
  async #keep({ blob, timestampMs, mimeType }) {
    for (let from = 0; from < blob.size; from += CHUNK_MAX_BYTES) {
      const bytes = await blob.slice(from, from + CHUNK_MAX_BYTES).arrayBuffer();
      const { recordingId, kind } = this.#track;
      const sequence = this.#track.nextSequence;
      const size = bytes.byteLength;
      const chunk = { recordingId, kind, sequence, mimeType, timestampMs, size, bytes, sha256: await sha256(bytes) };
      const recordedMs = this.progress.recordedMs;
      const recordedBytes = this.#track.recordedBytes + size;
      this.#track = { ...this.#track, nextSequence: sequence + 1, recordedMs, recordedBytes };
      const kept = await this.#store.append(chunk, this.#track);
      this.#count(size);
      this.#uploader.add([{ sequence, size }]);
      if (kept === "refused") this.#backlogFull("this browser refuses to store more");
    }
    if (this.#pendingBytes >= this.#backlogMaxBytes) this.#backlogFull("too much waits for the network");
    this.#emit("progress", this.progress);
  }

  /** @param {string} why */
  #backlogFull(why) {
    this.#halt(new ApiError({ code: "backlog-full", status: 0, detail: `${why}; recording stops, uploads go on` }));
  }

  /**
   * Tells an error of this browser and ends the session; uploads go on.
   * @param {ApiError} error
   */
  #halt(error) {
    if (this.#session === undefined) return;
    this.#fail(error, false);
    void this.#session.stop();
  }

  /**
   * The server will not take this track any more, so going on to record would only fill the browser. A token that ran
   * out is different: the person signs in again, and `retry()` goes on.
   * @param {ApiError} error
   */
  #refused(error) {
    this.#fail(error, true);
    if (error.status !== 401) void this.#session?.stop();
  }

  /** Takes the last blob, and waits until everything in hand is stored. */
  async #endSession() {
    await this.#session?.stop();
    await this.#writes;
  }

  /**
   * @param {"stopped" | "capture-ended" | "capture-failed"} reason
   * @param {string} detail
   */
  #ended(reason, detail) {
    this.#earlierMs += this.#session?.elapsedMs ?? 0;
    this.#session = undefined;
    if (this.#state === "recording") this.#enter("ready");
    this.#emit("progress", this.progress);
    if (reason !== "stopped") this.#fail(new ApiError({ code: reason, status: 0, detail }), false);
  }

  /** @param {number} bytes */
  #count(bytes) {
    this.#pendingChunks += 1;
    this.#pendingBytes += bytes;
  }

  /** @param {Pending} chunk */
  #acknowledged(chunk) {
    this.#pendingChunks -= 1;
    this.#pendingBytes -= chunk.size;
    this.#lastAckAt = Date.now();
    this.#emit("progress", this.progress);
  }

  /** Warns before a tab with unsent media is closed, and takes the last blob when it is. */
  #watchPage() {
    const { signal } = this.#page;
    const warn = (/** @type {Event} */ event) => {
      if (this.#pendingChunks > 0 || this.#session !== undefined) event.preventDefault();
    };
    globalThis.addEventListener("beforeunload", warn, { signal });
    globalThis.addEventListener("pagehide", () => this.#session?.flush(), { signal });
  }

  /** @param {RecorderState} state */
  #leave(state) {
    this.#uploader.close();
    this.#page.abort();
    this.#store.close();
    this.#unlock();
    this.#enter(state);
  }

  /** @param {RecorderState} state */
  #enter(state) {
    this.#state = state;
    this.#announce();
  }

  #announce() { this.#emit("state", this.status); }

  /**
   * @param {ApiError} error
   * @param {boolean} fatal
   */
  #fail({ code, detail, requestId }, fatal) {
    this.#emit("error", { code, detail, requestId, fatal });
  }

  /**
   * @template {keyof RecorderEvents} T
   * @param {T} type
   * @param {RecorderEvents[T]} detail
   */
  #emit(type, detail) {
    for (const listener of this.#listeners[type]) listener(detail);
  }
}
