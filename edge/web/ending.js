/**
 * @file Stops a recording on the server, and does not forget it before the server has answered.
 *
 * Decisions: the wish to stop is noted in localStorage before the first request, so that a reload resumes it; what can
 * pass is retried by the rules of the chunks (`retry.js`). `POST …/stop` names a call, not a recording, and stops
 * whichever is live: so it is asked first whether this recording is still the live one. Between the two requests
 * somebody may stop it and start another; only the server could close that gap. It must not know views or media.
 */
import { Gate, persist } from "./gate.js";
import { ApiError } from "./problem.js";
import { judge } from "./retry.js";

/** @import { Api } from "./api.js" */
/** @import { RetryPolicy } from "./retry.js" */

/** Key in localStorage. The list is as long as there are recordings stopped and not yet answered: one, nearly always. */
const KEY = "callreel-stops";

/** @typedef {{ recordingId: string, callId: string, userId: string, host: boolean }} Take */

export class Ending {
  /** @type {Api} */ #api;
  /** @type {(error: ApiError | undefined) => void} */ #tell;
  /** @type {Gate} */ #gate;
  #told = false;

  /**
   * @param {Api} api
   * @param {RetryPolicy} policy
   * @param {(error: ApiError | undefined) => void} tell Why the stop is not answered yet, or was given up; undefined when it passed.
   */
  constructor(api, policy, tell) {
    this.#api = api;
    this.#tell = tell;
    this.#gate = new Gate(policy, () => this.#waiting());
    globalThis.addEventListener("online", () => this.retry());
  }

  /** Keeps over reloads that this recording is to be stopped. Only a host stops. @param {Take} take */
  note(take) {
    if (take.host) keep([...others(take), take]);
  }

  /** Somebody records under it again. @param {Take} take */
  forget(take) {
    keep(others(take));
  }

  /**
   * Resolves when the recording is over, or when it can never be stopped from here, which is told.
   * @param {Take} take
   * @throws {ApiError} 401, with the note kept: it goes on after signing in.
   */
  async end(take) {
    if (!take.host) return;
    this.note(take);
    try {
      await persist(() => this.#stop(take), this.#gate, new AbortController().signal);
      if (this.#told) this.#tell(undefined);
    } catch (cause) {
      if (!(cause instanceof ApiError) || judge(cause) === "unauthorized") throw cause;
      const { code, status, requestId, detail } = cause;
      this.#tell(new ApiError({ code, status, requestId, detail: `The recording could not be stopped: ${detail}` }));
    } finally {
      this.#told = false;
    }
    this.forget(take);
  }

  /** Asks again now instead of after the pause. */
  retry() {
    this.#gate.open();
  }

  #waiting() {
    if (this.#gate.closedBy === undefined) return;
    this.#told = true;
    this.#tell(this.#gate.closedBy);
  }

  /** @param {Take} take */
  async #stop(take) {
    if (await isOver(this.#api, take)) return;
    await this.#api.stopRecording(take.callId).catch((cause) => {
      if (cause instanceof ApiError && [404, 409].includes(cause.status)) return; // somebody else stopped or deleted it
      throw cause;
    });
  }
}

/**
 * Whether the recording has been stopped, has ended by itself, or is gone.
 * @param {Api} api
 * @param {Take} take
 * @returns {Promise<boolean>} Rejects when that cannot be known now.
 */
export async function isOver(api, { callId, recordingId }) {
  try {
    const { status } = await api.recording(callId, recordingId);
    return status !== "recording" && status !== "paused";
  } catch (cause) {
    if (cause instanceof ApiError && cause.status === 404) return true;
    throw cause;
  }
}

/** Recordings that this browser was told to stop, and whose stop nobody has answered. @returns {Take[]} */
export function notedStops() {
  try {
    const noted = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(noted) ? noted : [];
  } catch {
    return [];
  }
}

/** @param {Take} take */
const others = (take) => notedStops().filter(({ recordingId }) => recordingId !== take.recordingId);

/** @param {Take[]} stops */
function keep(stops) {
  try {
    if (stops.length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(stops));
  } catch {
    // A browser without storage still stops as long as the tab lives.
  }
}
