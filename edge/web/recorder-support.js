/**
 * @file What surrounds the recorder: its options and events as types, the lock between tabs, the bound of the backlog.
 */
import { deferred } from "./gate.js";
import { ApiError } from "./problem.js";

/** @import { TokenSource } from "./chunk-routes.js" */
/** @import { RetryPolicy } from "./retry.js" */
/** @import { UploadState } from "./uploader.js" */

/** Most that may wait in this browser: two hours at 2 Mbit/s, which nobody is offline for without noticing. */
export const BACKLOG_MAX_BYTES = 2 * 1024 ** 3;
/** Share of the origin's free quota that the backlog may take; the rest is the host page's. */
export const BACKLOG_QUOTA_SHARE = 0.5;
/** How long to wait for a tab that is just closing to give the lock back. */
export const LOCK_WAIT_MS = 5_000;

/**
 * @typedef {object} RecorderOptions
 * @property {string} recordingId
 * @property {string} participantId The token's own user.
 * @property {"video" | "audio" | "screen"} kind
 * @property {TokenSource} token
 * @property {string} [baseUrl] Origin of the edge; default: the page's own.
 * @property {Record<string, string>} [labels] Kept with the track, given back by `unfinishedTracks()`.
 * @property {string[]} [mimeTypes] Instead of the preference in `capture-session.js`.
 * @property {number} [videoBitsPerSecond]
 * @property {number} [audioBitsPerSecond]
 * @property {number} [backlogMaxBytes]
 * @property {RetryPolicy} [retry]
 *
 * @typedef {"ready" | "recording" | "stopping" | "complete" | "closed"} RecorderState
 * @typedef {{ recordedMs: number, recordedChunks: number, recordedBytes: number, pendingChunks: number,
 *   pendingBytes: number, lastAckAt: number | null }} Progress
 * @typedef {{ state: RecorderState, upload: UploadState, uploadError: ApiError | undefined }} StateEvent
 * @typedef {{ code: string, detail: string, requestId: string, fatal: boolean }} ErrorEvent `fatal`: uploads stand
 *   still until `retry()` or `discard()`.
 * @typedef {{ progress: Progress, state: StateEvent, error: ErrorEvent }} RecorderEvents
 */

/**
 * @param {RecorderOptions} options
 * @returns {Promise<number>} Bytes that may wait in this browser.
 */
export async function backlogLimit({ backlogMaxBytes = BACKLOG_MAX_BYTES }) {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  if (quota === undefined) return backlogMaxBytes;
  return Math.min(backlogMaxBytes, (quota - usage) * BACKLOG_QUOTA_SHARE);
}

/**
 * @param {string} name
 * @returns {Promise<() => void>} Gives the lock back.
 */
export function lock(name) {
  const held = deferred();
  return new Promise((resolve, reject) => {
    const options = { signal: AbortSignal.timeout(LOCK_WAIT_MS) };
    const request = navigator.locks.request(name, options, () => {
      resolve(held.resolve);
      return held.promise;
    });
    const detail = "another tab of this browser is recording or uploading this recording";
    request.catch(() => reject(new ApiError({ code: "open-elsewhere", status: 0, detail })));
  });
}

/**
 * @param {(number | [number, number])[]} missing Single numbers or ranges.
 * @returns {number[]}
 */
export function numbers(missing) {
  return missing.flatMap((entry) => {
    if (typeof entry === "number") return [entry];
    const [from, to] = entry;
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}
