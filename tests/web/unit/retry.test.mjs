/** The rules of trying again, as pure functions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfterMs } from "../../../edge/web/problem.js";
import { DEFAULT_POLICY, RETRY_AFTER_MAX_MS, judge, pauseMs } from "../../../edge/web/retry.js";

const verdict = (/** @type {number} */ status, code = "x") => judge({ status, code });

test("what can pass is retried, and what cannot is not", () => {
  assert.deepEqual([0, 408, 429, 500, 502, 503].map((status) => verdict(status)), Array(6).fill("retry"));
  assert.deepEqual([403, 404, 409, 413, 415, 422].map((status) => verdict(status)), Array(6).fill("fatal"));
  assert.deepEqual([verdict(507), verdict(401), verdict(400)], ["disk-full", "unauthorized", "corrupt"]);
});

test("pauses double up to a bound, and jitter takes at most half", () => {
  const pauses = [1, 2, 3, 4, 5, 6, 50].map((failures) => pauseMs(failures, "retry", undefined, DEFAULT_POLICY, 1));
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(pauseMs(1, "retry", undefined, DEFAULT_POLICY, 0), 250);
  assert.equal(pauseMs(1, "disk-full", undefined, DEFAULT_POLICY, 1), 5000);
});

test("retry-after lengthens a pause, never beyond its bound", () => {
  assert.equal(pauseMs(1, "retry", 3000, DEFAULT_POLICY, 1), 3000);
  assert.equal(pauseMs(1, "retry", 0, DEFAULT_POLICY, 1), 500);
  assert.equal(pauseMs(1, "retry", 86_400_000, DEFAULT_POLICY, 1), RETRY_AFTER_MAX_MS);
});

test("retry-after is read as seconds, as a date, or not at all", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  assert.equal(retryAfterMs("7", now), 7000);
  assert.equal(retryAfterMs("Thu, 01 Jan 2026 00:00:05 GMT", now), 5000);
  assert.deepEqual([retryAfterMs(null, now), retryAfterMs("soon", now)], [undefined, undefined]);
});
