/**
 * @file One gate for all requests of a track: when one fails, all wait, so that a server in trouble is not asked by
 * every parallel upload at once. It opens by time, by `online`, or by hand.
 *
 * Knows timers and `navigator.onLine`; the rules are in `retry.js`. It must not know what the requests do.
 */
import { ApiError } from "./problem.js";
import { CORRUPT_LIMIT, judge, pauseMs } from "./retry.js";

/** @import { RetryPolicy, Verdict } from "./retry.js" */

export class Gate {
  /** Why requests wait; undefined while the gate is open. @type {ApiError | undefined} */
  closedBy;
  /** @type {RetryPolicy} */ #policy;
  /** @type {() => void} */ #changed;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {PromiseWithResolvers<void> | undefined} */ #waiting;

  /**
   * @param {RetryPolicy} policy
   * @param {() => void} changed Called when it closes or opens.
   */
  constructor(policy, changed) {
    this.#policy = policy;
    this.#changed = changed;
  }

  /** Resolves when a request may be sent. */
  async opened() {
    while (this.#waiting !== undefined) await this.#waiting.promise;
  }

  /**
   * A request went through: the next failure is the first again. One that was under way when the gate closed says
   * nothing about it, and must not cut short what `retry-after` asked for.
   */
  succeeded() {
    if (this.#waiting === undefined) this.#failures = 0;
  }

  /**
   * A request failed in a way that can pass. Failures while it is closed belong to the same trouble and do not count.
   * @param {ApiError} error
   * @param {Verdict} verdict
   */
  failed(error, verdict) {
    if (this.#waiting !== undefined) return;
    this.#failures += 1;
    const pause = pauseMs(this.#failures, verdict, error.retryAfterMs, this.#policy, Math.random());
    this.closedBy = error;
    this.#waiting = deferred();
    this.#timer = setTimeout(() => this.open(), pause);
    this.#changed();
  }

  /** Opens now: the time is over, the network is back, or a person asked for it. */
  open() {
    if (this.#waiting === undefined) return;
    clearTimeout(this.#timer);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.closedBy = undefined;
    this.#changed();
    waiting.resolve();
  }
}

/**
 * Sends until it succeeds, or fails in a way that no retry heals.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {Gate} gate
 * @param {AbortSignal} signal Ends the waiting with code `aborted`.
 * @returns {Promise<T>}
 */
export async function persist(attempt, gate, signal) {
  for (let corrupt = 0; ; ) {
    await gate.opened();
    if (signal.aborted) throw new ApiError({ code: "aborted", status: 0, detail: "the upload was closed" });
    try {
      const value = await attempt();
      gate.succeeded();
      return value;
    } catch (cause) {
      if (!(cause instanceof ApiError) || signal.aborted) throw cause;
      const verdict = judge(cause);
      if (verdict === "corrupt") corrupt += 1;
      if (verdict === "fatal" || verdict === "unauthorized" || corrupt >= CORRUPT_LIMIT) throw cause;
      gate.failed(cause, verdict);
    }
  }
}

/**
 * `Promise.withResolvers`, which Safari has only since 17.4.
 * @returns {PromiseWithResolvers<void>}
 */
export function deferred() {
  /** @type {() => void} */ let resolve = () => {};
  /** @type {(reason?: unknown) => void} */ let reject = () => {};
  const promise = /** @type {Promise<void>} */ (
    new Promise((yes, no) => {
      resolve = yes;
      reject = no;
    })
  );
  return { promise, resolve: /** @type {PromiseWithResolvers<void>["resolve"]} */ (resolve), reject };
}
