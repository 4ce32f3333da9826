/**
 * @file A small typed client of the control routes: calls, recordings, the development login.
 *
 * It must not know the page. Chunks go through `recorder.js`. Every failure is an {@link ApiError} with a stable code.
 */
import { ApiError, networkError, readProblem } from "./problem.js";

export { ApiError };

/** @import { TokenSource } from "./chunk-routes.js" */

/** Longest a control request may take; none of them does heavy work while the client waits. */
export const CONTROL_TIMEOUT_MS = 20_000;
/** Rows asked of a list: the most that the API gives at once. */
export const LIST_LIMIT = 200;

/**
 * @typedef {"recording" | "paused" | "stopping" | "processing" | "completed" | "failed"} RecordingStatus
 * @typedef {{ from: number, to: number, reason: string }} Gap Milliseconds of the track.
 * @typedef {{ id: string, participantId: string, source: string, kind: string, codec?: string | null, startedAt?: string | null,
 *   duration?: number | null, chunks?: number, bytes?: number, gaps?: Gap[] }} Track
 * @typedef {{ id: string, kind: string, participantId?: string | null, contentType: string, size: number, sha256: string,
 *   duration?: number | null, width?: number | null, height?: number | null, url?: string }} Artifact
 * @typedef {{ id: string, callId: string, status: RecordingStatus, stage?: string | null, progress?: number | null,
 *   startedAt: string, stoppedAt?: string | null, completedAt?: string | null, duration?: number | null,
 *   fileSize?: number | null, format?: string | null, thumbnails?: string[], artifacts?: Artifact[], tracks?: Track[],
 *   error?: { code: string, detail: string } | null, expiresAt?: string | null }} Recording
 * @typedef {{ id: string, title?: string | null, hostId?: string, host?: string, status?: string, createdAt?: string }} Call
 */

/** Whether a recording takes chunks of browsers that begin now. @param {RecordingStatus} status */
export const isLive = (status) => status === "recording" || status === "paused";

/** Status from which a recording does not move any more. @param {RecordingStatus} status */
export const isFinal = (status) => status === "completed" || status === "failed";

export class Api {
  /** @type {TokenSource} */ #token;
  /** @type {string} */ #base;

  /**
   * @param {TokenSource} token
   * @param {string} [baseUrl] Origin of the edge; default: the page's own.
   */
  constructor(token, baseUrl = "") {
    this.#token = token;
    this.#base = `${baseUrl}/video-calls`;
  }

  /** @param {{ title?: string, participants?: string[] }} call @returns {Promise<Call>} */
  createCall(call) {
    return this.#send("POST", "", call);
  }

  /** @returns {Promise<Call[]>} Newest first. */
  async calls() {
    return rows(await this.#send("GET", `?limit=${LIST_LIMIT}`));
  }

  /** @param {string} callId @returns {Promise<Call>} */
  call(callId) {
    return this.#send("GET", `/${part(callId)}`);
  }

  /** @param {string} callId @returns {Promise<{ recordingId: string }>} */
  startRecording(callId) {
    return this.#send("POST", `/${part(callId)}/recording/start`, {});
  }

  /** What is said until it goes on is in no file. @param {string} callId @returns {Promise<void>} */
  pauseRecording(callId) {
    return this.#send("POST", `/${part(callId)}/recording/pause`);
  }

  /** @param {string} callId @returns {Promise<void>} */
  resumeRecording(callId) {
    return this.#send("POST", `/${part(callId)}/recording/resume`);
  }

  /** @param {string} callId @returns {Promise<void>} */
  stopRecording(callId) {
    return this.#send("POST", `/${part(callId)}/recording/stop`);
  }

  /** @param {string} callId @returns {Promise<Recording[]>} Newest first. */
  async recordings(callId) {
    return rows(await this.#send("GET", `/${part(callId)}/recordings?limit=${LIST_LIMIT}`));
  }

  /** @param {string} callId @param {string} recordingId @returns {Promise<Recording>} */
  recording(callId, recordingId) {
    return this.#send("GET", `/${part(callId)}/recording/${part(recordingId)}`);
  }

  /** @param {string} callId @param {string} recordingId @returns {Promise<void>} */
  deleteRecording(callId, recordingId) {
    return this.#send("DELETE", `/${part(callId)}/recording/${part(recordingId)}`);
  }

  /**
   * For `<video>` and download links, which cannot send a header: the token goes into the query.
   * @param {string} callId @param {string} recordingId @param {string} [artifactId]
   */
  async downloadUrl(callId, recordingId, artifactId) {
    const query = new URLSearchParams({ token: await this.#token("normal") });
    if (artifactId !== undefined) query.set("artifact", artifactId);
    return `${this.#base}/${part(callId)}/recording/${part(recordingId)}/download?${query}`;
  }

  /** @param {string} callId @param {string} recordingId @param {number} n 0 to 4. */
  async thumbnailUrl(callId, recordingId, n) {
    const query = new URLSearchParams({ token: await this.#token("normal") });
    return `${this.#base}/${part(callId)}/recording/${part(recordingId)}/thumbnails/${n}?${query}`;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>} The answer's `data`.
   */
  async #send(method, path, body) {
    const first = await this.#once("normal", method, path, body);
    const response = first.status === 401 ? await this.#once("rejected", method, path, body) : first;
    if (!response.ok) throw await readProblem(response);
    if (response.status === 204) return undefined;
    return (await response.json().catch((cause) => Promise.reject(networkError(cause)))).data;
  }

  /**
   * @param {"normal" | "rejected"} reason
   * @param {string} method
   * @param {string} path
   * @param {unknown} body
   */
  async #once(reason, method, path, body) {
    const headers = new Headers({ authorization: `Bearer ${await this.#token(reason)}` });
    if (body !== undefined) headers.set("content-type", "application/json");
    return request(`${this.#base}${path}`, method, headers, body);
  }
}

/**
 * The development login. Throws code `http-404` or the server's own when it is switched off.
 * @param {{ userId: string, name?: string }} user
 * @returns {Promise<string>} A token.
 */
export async function developmentToken(user) {
  const response = await request("/dev/token", "POST", new Headers({ "content-type": "application/json" }), user);
  if (!response.ok) throw await readProblem(response);
  const answer = await response.json();
  return answer.token ?? answer.data.token;
}

/**
 * @param {string} url
 * @param {string} method
 * @param {Headers} headers
 * @param {unknown} body
 */
async function request(url, method, headers, body) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  try {
    return await fetch(url, { method, headers, body: text, signal: AbortSignal.timeout(CONTROL_TIMEOUT_MS) });
  } catch (cause) {
    throw networkError(cause);
  }
}

/** @param {string} id */
const part = (id) => encodeURIComponent(id);

/**
 * A list is an array, or a page of one beside its cursor.
 * @param {any} data
 * @returns {any[]}
 */
function rows(data) {
  return Array.isArray(data) ? data : (data.items ?? data.recordings ?? data.calls ?? []);
}
