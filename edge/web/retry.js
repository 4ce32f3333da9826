/**
 * @file When to try again: which failures are worth it, and how long to wait. Pure rules; no timers, no network.
 *
 * A chunk has no last attempt. Giving up on one would lose media, so a failure that can pass is retried for as long as
 * the page lives, and what is bounded is the pause between attempts.
 */

/** First pause; the next is twice as long. Half a second is shorter than one chunk, so a blip costs no backlog. */
export const RETRY_BASE_MS = 500;
/** Longest pause. The server finishes a stopped recording 15 s after the last chunk: a client must be back before that. */
export const RETRY_MAX_MS = 10_000;
/** First pause when the server's disk is full (507): people must act, which takes longer than a blip. */
export const DISK_FULL_BASE_MS = 5_000;
/** Longest pause when the server's disk is full. */
export const DISK_FULL_MAX_MS = 60_000;
/** No `retry-after` is obeyed beyond this, so a wrong header cannot stop an upload for a day. */
export const RETRY_AFTER_MAX_MS = 120_000;
/** A server that keeps confirming other bytes than were sent, or keeps refusing the digest: stop after this many. */
export const CORRUPT_LIMIT = 3;

/**
 * @typedef {"retry" | "disk-full" | "unauthorized" | "corrupt" | "fatal"} Verdict
 * @typedef {{ baseMs: number, maxMs: number, diskFullBaseMs: number, diskFullMaxMs: number }} RetryPolicy
 */

/** @type {RetryPolicy} */
export const DEFAULT_POLICY = {
  baseMs: RETRY_BASE_MS,
  maxMs: RETRY_MAX_MS,
  diskFullBaseMs: DISK_FULL_BASE_MS,
  diskFullMaxMs: DISK_FULL_MAX_MS,
};

/**
 * What to do about a failed upload.
 * @param {{ status: number, code: string }} error
 * @returns {Verdict}
 */
export function judge({ status, code }) {
  if (status === 0 || status === 408 || status === 425 || status === 429) return "retry";
  if (status === 507) return "disk-full";
  if (status >= 500) return "retry";
  if (status === 401) return "unauthorized";
  // 400 is a digest that did not match (bytes damaged on the way); the same bytes may arrive whole next time.
  if (status === 400 || code === "acknowledgement-mismatch") return "corrupt";
  return "fatal";
}

/**
 * Exponential backoff with "equal jitter": between half the step and the whole of it, so that many clients that lost
 * the same server do not come back together, and none comes back at once.
 * @param {number} failures How many in a row, from 1.
 * @param {Verdict} verdict
 * @param {number | undefined} retryAfterMs What the server asked for.
 * @param {RetryPolicy} policy
 * @param {number} random 0 to 1.
 * @returns {number} Milliseconds.
 */
export function pauseMs(failures, verdict, retryAfterMs, policy, random) {
  const full = verdict === "disk-full";
  const base = full ? policy.diskFullBaseMs : policy.baseMs;
  const max = full ? policy.diskFullMaxMs : policy.maxMs;
  const step = Math.min(max, base * 2 ** Math.min(failures - 1, 20));
  const jittered = step / 2 + (step / 2) * random;
  if (retryAfterMs === undefined) return jittered;
  return Math.min(Math.max(retryAfterMs, jittered), RETRY_AFTER_MAX_MS);
}
