/**
 * A real HTTP server for the recorder's tests: the page's files, and the chunk routes over memory with faults on order.
 * It keeps the contract (200 for the same bytes, 409 for others, digests verified); durability is not what it tests.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../../edge/web/", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CSP =
  "default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; style-src 'self'; connect-src 'self'";
const CHUNK = /^\/video-calls\/recording\/([^/]+)\/participants\/([^/]+)\/([^/]+)\/(?:chunks\/(\d+)|(complete))$/;
const STATUS = /^\/video-calls\/recording\/([^/]+)\/status$/;

/** @typedef {"drop" | "drop-after-store" | "hang" | { status: number, code: string, headers?: Record<string, string> }} Fault */

export class ChunkServer {
  /** By "recording/participant/kind". @type {Map<string, { chunks: Map<number, Buffer>, timestamps: Map<number, number>, complete?: number }>} */
  tracks = new Map();
  /** Taken one by one by the next PUTs. @type {Fault[]} */
  faults = [];
  /** Every PUT, in the order in which it came. @type {{ sequence: number, status: number | string, at: number }[]} */
  puts = [];
  /** @type {((request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse, body: Buffer) => boolean | Promise<boolean>)[]} */
  routes = [];
  /** @type {{ test: () => unknown, resolve: () => void }[]} */
  #waiting = [];

  async listen(port = 0) {
    this.http = createServer((request, response) => void this.#answer(request, response));
    await new Promise((resolve) => this.http.listen(port, "127.0.0.1", () => resolve(undefined)));
    this.url = `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (this.http.address()).port}`;
    return this;
  }

  close() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }

  /** Resolves as soon as `test` holds, asked after every request. @param {() => unknown} test */
  until(test) {
    return test() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ test, resolve: () => resolve(undefined) }));
  }

  /** @param {string} key */
  track(key) {
    if (!this.tracks.has(key)) this.tracks.set(key, { chunks: new Map(), timestamps: new Map() });
    return this.tracks.get(key);
  }

  async #answer(request, response) {
    try {
      const parts = [];
      for await (const part of request) parts.push(part);
      const body = Buffer.concat(parts);
      for (const route of this.routes) if (await route(request, response, body)) return;
      const path = new URL(request.url, "http://x").pathname;
      const chunk = CHUNK.exec(path);
      const status = STATUS.exec(path);
      if (chunk?.[4] !== undefined) this.#put(request, response, chunk, body);
      else if (chunk !== null) this.#complete(response, chunk, JSON.parse(body.toString()));
      else if (status !== null) this.#status(response, status[1]);
      else await this.#file(response, path);
    } catch {
      response.destroy(); // the client went away in the middle
    } finally {
      const ready = this.#waiting.filter(({ test }) => test());
      this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
      for (const { resolve } of ready) resolve();
    }
  }

  #put(request, response, [, recordingId, participantId, type, number], body) {
    const sequence = Number(number);
    const fault = this.faults.shift();
    const note = (status) => this.puts.push({ sequence, status, at: Date.now() });
    if (fault === "hang") return note("hang");
    if (fault === "drop") return note("drop"), response.destroy();
    if (typeof fault === "object") return note(fault.status), problem(response, fault.status, fault.code, fault.headers);
    const track = this.track(`${recordingId}/${participantId}/${type}`);
    const digest = createHash("sha256").update(body).digest();
    const held = track.chunks.get(sequence);
    if (request.headers["content-digest"] !== `sha-256=:${digest.toString("base64")}:`) {
      return note(400), problem(response, 400, "digest-mismatch");
    }
    if (held !== undefined && !held.equals(body)) return note(409), problem(response, 409, "chunk-conflict");
    track.chunks.set(sequence, body);
    track.timestamps.set(sequence, Number(request.headers["x-chunk-timestamp"]));
    if (fault === "drop-after-store") return note("drop-after-store"), response.destroy();
    const code = held === undefined ? 201 : 200;
    note(code);
    json(response, code, { recordingId, participantId, type, sequence, size: body.length, sha256: digest.toString("hex") });
  }

  #complete(response, [, recordingId, participantId, kind], { lastSequence }) {
    this.track(`${recordingId}/${participantId}/${kind}`).complete = lastSequence;
    json(response, 200, { lastSequence });
  }

  #status(response, recordingId) {
    const tracks = [...this.tracks].filter(([key]) => key.startsWith(`${recordingId}/`)).map(([key, track]) => {
      const [, participantId, kind] = key.split("/");
      const received = [...track.chunks.keys()].sort((a, b) => a - b).map((n) => [n, n]);
      const last = received.at(-1)?.[1] ?? null;
      const missing = Array.from({ length: (last ?? -1) + 1 }, (_, n) => n).filter((n) => !track.chunks.has(n)).map((n) => [n, n]);
      return { participantId, kind, received, missing, bytes: 0, lastSequence: last, complete: track.complete !== undefined };
    });
    json(response, 200, { recordingId, tracks });
  }

  async #file(response, path) {
    const file = join(WEB, normalize(path === "/" ? "/index.html" : path));
    const bytes = file.startsWith(WEB) ? await readFile(file).catch(() => null) : null;
    if (bytes === null) return problem(response, 404, "not-found");
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": `${type}; charset=utf-8`, "content-security-policy": CSP, "cache-control": "no-store" });
    response.end(bytes);
  }
}

export function json(response, status, data) {
  response.writeHead(status, { "content-type": "application/json", "x-request-id": "test" });
  response.end(JSON.stringify({ success: true, data }));
}

export function problem(response, status, code, headers = {}) {
  response.writeHead(status, { "content-type": "application/problem+json", ...headers });
  response.end(JSON.stringify({ success: false, type: `/problems/${code}`, title: code, status, detail: `detail of ${code}`, code, requestId: "test" }));
}
