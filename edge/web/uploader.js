/**
 * @file Sends stored chunks in order until each is acknowledged, and only then forgets it.
 *
 * Must not know MediaRecorder. A chunk leaves the store when the server has answered 200 or 201 with its size and
 * digest (`chunk-routes.js` compares them). What can pass is retried for ever (`retry.js`); what cannot (conflict, not
 * live, forbidden, gone) blocks the track with everything kept, until `retry()` or the user discards it.
 */
import { Gate, deferred, persist } from "./gate.js";
import { ApiError } from "./problem.js";

/** @import { ChunkStore, Pending } from "./chunk-store.js" */
/** @import { ChunkRoutes } from "./chunk-routes.js" */
/** @import { RetryPolicy } from "./retry.js" */

/**
 * Uploads at once. Live recording makes one chunk a second, so one would do; after an outage three hide the round trip
 * without taking a slow line from the call itself. It also bounds memory: three chunks.
 */
export const PARALLEL_UPLOADS = 3;

/**
 * @typedef {"idle" | "uploading" | "waiting" | "offline" | "blocked"} UploadState
 * @typedef {{ acknowledged(chunk: Pending): void, changed(): void, blocked(error: ApiError): void }} UploadListener
 */

export class Uploader {
  /** Why nothing is sent any more. @type {ApiError | undefined} */
  blockedBy;
  /** @type {Gate} */ gate;
  /** @type {ChunkStore} */ #store;
  /** @type {ChunkRoutes} */ #routes;
  /** @type {UploadListener} */ #listener;
  /** Sorted by sequence; numbers only, the bytes stay in the store. @type {Pending[]} */ #queue = [];
  #inFlight = 0;
  #closing = new AbortController();
  /** @type {PromiseWithResolvers<void>[]} */ #drains = [];

  /**
   * @param {ChunkStore} store
   * @param {ChunkRoutes} routes
   * @param {RetryPolicy} policy
   * @param {UploadListener} listener
   */
  constructor(store, routes, policy, listener) {
    this.#store = store;
    this.#routes = routes;
    this.#listener = listener;
    this.gate = new Gate(policy, () => listener.changed());
    globalThis.addEventListener("online", this.#online, { signal: this.signal });
    globalThis.addEventListener("offline", () => listener.changed(), { signal: this.signal });
  }

  /** Aborted when the uploader is closed. */
  get signal() {
    return this.#closing.signal;
  }

  /** @returns {UploadState} */
  get state() {
    if (this.blockedBy !== undefined) return "blocked";
    if (this.#queue.length + this.#inFlight === 0 && this.gate.closedBy === undefined) return "idle";
    if (navigator.onLine === false) return "offline";
    return this.gate.closedBy === undefined ? "uploading" : "waiting";
  }

  /** @param {Pending[]} chunks Already in the store. */
  add(chunks) {
    this.#queue = [...this.#queue, ...chunks].sort((a, b) => a.sequence - b.sequence);
    this.#pump();
  }

  /** Resolves when everything added is acknowledged; rejects when the track is blocked. */
  async drained() {
    if (this.blockedBy !== undefined) throw this.blockedBy;
    if (this.#queue.length + this.#inFlight === 0) return;
    const drain = deferred();
    this.#drains.push(drain);
    await drain.promise;
  }

  /** Tries again now: after a block, or instead of waiting for the pause to end. */
  retry() {
    this.blockedBy = undefined;
    this.gate.open();
    this.#pump();
    this.#listener.changed();
  }

  /**
   * Blocks the track from outside: a request about the whole recording was refused.
   * @param {ApiError} error
   */
  block(error) {
    if (this.blockedBy !== undefined || this.signal.aborted) return;
    this.blockedBy = error;
    this.#settle();
    this.#listener.blocked(error);
    this.#listener.changed();
  }

  /** Ends every request. What is in the store stays there. */
  close() {
    this.#closing.abort();
    this.gate.open();
    const error = new ApiError({ code: "aborted", status: 0, detail: "the upload was closed" });
    for (const drain of this.#drains.splice(0)) drain.reject(error);
  }

  #online = () => {
    this.gate.open();
    this.#listener.changed();
  };

  #pump() {
    while (this.#inFlight < PARALLEL_UPLOADS && this.blockedBy === undefined && !this.signal.aborted) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      this.#inFlight += 1;
      void this.#deliver(next);
    }
    this.#settle();
  }

  /** @param {Pending} pending */
  async #deliver(pending) {
    try {
      await this.#send(pending);
      this.#inFlight -= 1;
      this.#listener.acknowledged(pending);
    } catch (cause) {
      this.#inFlight -= 1;
      this.#queue.unshift(pending);
      this.#queue.sort((a, b) => a.sequence - b.sequence);
      this.block(asApiError(cause));
    }
    this.#pump();
    this.#listener.changed();
  }

  /** @param {Pending} pending */
  async #send(pending) {
    await persist(
      async () => {
        const chunk = await this.#store.chunk(pending.sequence);
        if (chunk === undefined) {
          const detail = `chunk ${pending.sequence} is no longer in this browser's storage`;
          throw new ApiError({ code: "chunk-lost", status: 404, detail });
        }
        await this.#routes.put(chunk, this.signal);
      },
      this.gate,
      this.signal,
    );
    await this.#store.remove(pending.sequence);
  }

  #settle() {
    if (this.blockedBy === undefined && this.#queue.length + this.#inFlight > 0) return;
    for (const drain of this.#drains.splice(0)) {
      if (this.blockedBy === undefined) drain.resolve();
      else drain.reject(this.blockedBy);
    }
  }
}

/**
 * @param {unknown} cause
 * @returns {ApiError}
 */
export function asApiError(cause) {
  if (cause instanceof ApiError) return cause;
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new ApiError({ code: "storage-failed", status: 0, detail });
}
