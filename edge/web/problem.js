/**
 * @file Errors of the Callreel API as JavaScript errors (RFC 9457 `application/problem+json`).
 *
 * Shared by the recorder and by `api.js`; it knows nothing of routes or of the page.
 */

/** An answer that was not a success, or no answer at all (`status` 0, code `network` or `timeout`). */
export class ApiError extends Error {
  /**
   * @param {object} facts
   * @param {string} facts.code Stable, kebab-case.
   * @param {number} facts.status HTTP status, 0 when there was no answer.
   * @param {string} facts.detail For people.
   * @param {string} [facts.requestId] What to quote to an operator.
   * @param {number} [facts.retryAfterMs] From `retry-after`, when the server sent it.
   */
  constructor({ code, status, detail, requestId = "", retryAfterMs }) {
    super(detail);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.requestId = requestId;
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Reads an error response. Never throws: a proxy's HTML page becomes code `http-502`, say.
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
export async function readProblem(response) {
  const body = await response.json().catch(() => null);
  const problem = body !== null && typeof body === "object" ? body : {};
  return new ApiError({
    code: typeof problem.code === "string" ? problem.code : `http-${response.status}`,
    status: response.status,
    detail: problem.detail ?? problem.title ?? `the server answered ${response.status}`,
    requestId: problem.requestId ?? response.headers.get("x-request-id") ?? "",
    retryAfterMs: retryAfterMs(response.headers.get("retry-after"), Date.now()),
  });
}

/**
 * What `fetch` threw, as an ApiError with status 0.
 * @param {unknown} cause
 * @returns {ApiError}
 */
export function networkError(cause) {
  const name = cause instanceof Error ? cause.name : "";
  const code = name === "TimeoutError" ? "timeout" : name === "AbortError" ? "aborted" : "network";
  const detail = {
    timeout: "the server did not answer in time",
    aborted: "the request was cancelled",
    network: "the server cannot be reached",
  }[code];
  return new ApiError({ code, status: 0, detail });
}

/**
 * `retry-after` (RFC 9110, 10.2.3): seconds, or a date.
 * @param {string | null} value
 * @param {number} nowMs
 * @returns {number | undefined} Milliseconds from now.
 */
export function retryAfterMs(value, nowMs) {
  if (value === null || value.trim() === "") return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
