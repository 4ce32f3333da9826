/**
 * The recorder in a real Chromium against a real HTTP server: what the network, the server and the tab may do to it.
 * Media comes from the fake camera; nothing sleeps: the page's events and the server's requests are waited for.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";
import { launchChromium } from "../support/browsers.mjs";
import { ChunkServer } from "../support/chunk-server.mjs";

/** Pauses short enough for tests; the rules are the same. */
const RETRY = { baseMs: 20, maxMs: 100, diskFullBaseMs: 20, diskFullMaxMs: 100 };

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {ChunkServer} */ let server;
/** @type {import("playwright-core").BrowserContext} */ let context;
/** @type {import("playwright-core").Page} */ let page;
let recordingId = "";
let count = 0;

before(async () => {
  browser = await launchChromium();
  server = await new ChunkServer().listen();
});
after(async () => {
  await browser.close();
  await server.close();
});
beforeEach(async () => {
  await context?.close();
  context = await browser.newContext({ permissions: ["camera", "microphone"] });
  server.faults = [];
  server.puts = [];
  recordingId = `rec_${++count}`;
  page = await newTab();
});

/** A tab with the recorder loaded and no view over it. */
async function newTab() {
  const tab = await context.newPage();
  await tab.goto(`${server.url}/favicon.svg`); // the origin, without the page's own use of the recorder
  await tab.evaluate(async () => {
    const [recorder, store, routes] = await Promise.all(["/recorder.js", "/chunk-store.js", "/chunk-routes.js"].map((url) => import(url)));
    Object.assign(globalThis, { ...recorder, ...store, ...routes });
  });
  return tab;
}

/** Opens a recorder as `globalThis.recorder`, whose events are kept in `globalThis.errors`. */
function open(tab = page, options = {}) {
  return tab.evaluate(
    async ([recordingId, retry, options]) => {
      globalThis.errors = [];
      globalThis.recorder = await Recorder.open({ recordingId, participantId: "ada", kind: "video", token: () => "t", retry, ...options });
      recorder.on("error", (error) => errors.push(error));
    },
    /** @type {const} */ ([recordingId, RETRY, options]),
  );
}

/** Puts `n` chunks of known bytes into the store, as a tab that died has left them. */
function leave(n, tab = page) {
  return tab.evaluate(
    async ([recordingId, n]) => {
      const store = await openChunkStore(recordingId, "video");
      const about = { recordingId, kind: "video" };
      for (let sequence = 0; sequence < n; sequence += 1) {
        const bytes = new Uint8Array(1000).fill(sequence).buffer;
        const chunk = { ...about, sequence, bytes, size: 1000, mimeType: "video/webm", timestampMs: 1, sha256: await sha256(bytes) };
        const track = { ...about, participantId: "ada", labels: {}, nextSequence: sequence + 1, recordedMs: 0, recordedBytes: 0, state: "open" };
        await store.append(chunk, track);
      }
      store.close();
    },
    /** @type {const} */ ([recordingId, n]),
  );
}

/** Starts the fake camera and records until `n` chunks are counted. */
function record(n, tab = page) {
  return tab.evaluate(async (n) => {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 320 }, audio: true });
    await recorder.start(stream);
    await new Promise((resolve) => recorder.on("progress", (p) => p.recordedChunks >= n && resolve(undefined)));
  }, n);
}

const stop = (tab = page) => tab.evaluate(() => recorder.stop().then(() => "complete", (error) => error.code));
const pending = (tab = page) => tab.evaluate((id) => unfinishedTracks().then((tracks) => tracks.find((t) => t.recordingId === id)?.pendingChunks ?? "none"), recordingId);
const errors = (tab = page) => tab.evaluate(() => errors.map((error) => error.code));
const held = () => server.track(`${recordingId}/ada/video`);
const sequences = () => [...held().chunks.keys()].sort((a, b) => a - b);
const upTo = (/** @type {number} */ n) => Array.from({ length: n }, (_, index) => index);

test("a recording arrives whole, in order and complete, with the times of its blobs", async () => {
  await open();
  await record(3);
  assert.equal(await stop(), "complete");
  const n = held().chunks.size;
  assert.deepEqual(sequences(), upTo(n));
  assert.equal(held().complete, n - 1);
  assert.equal(held().chunks.get(0)?.subarray(0, 4).toString("hex"), "1a45dfa3"); // EBML
  const steps = upTo(n).slice(1).map((k) => (held().timestamps.get(k) ?? 0) - (held().timestamps.get(k - 1) ?? 0));
  assert.ok(steps.every((step) => step > 0 && step < 4000), `timestamps step by ${steps}`);
  assert.equal(await pending(), "none");
});

test("lost requests, lost answers, 500, 429, 408 and a full disk are retried until every chunk is held once", async () => {
  server.faults = [
    "drop", "drop-after-store", { status: 500, code: "internal" }, { status: 503, code: "draining" },
    { status: 408, code: "timeout" }, { status: 507, code: "disk-full" }, { status: 429, code: "rate-limited", headers: { "retry-after": "0" } },
  ];
  await leave(6);
  await open();
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(6));
  assert.ok(server.puts.some(({ status }) => status === 200), "the chunk whose answer was lost is confirmed with 200");
  assert.deepEqual(await errors(), []);
});

test("retry-after is obeyed", async () => {
  server.faults = [{ status: 429, code: "rate-limited", headers: { "retry-after": "1" } }];
  await leave(1);
  await open();
  assert.equal(await stop(), "complete");
  const [refused, taken] = server.puts;
  assert.ok(taken.at - refused.at >= 990, `came back after ${taken.at - refused.at} ms`);
});

for (const [status, code] of /** @type {const} */ ([[409, "chunk-conflict"], [409, "recording-not-live"], [403, "forbidden"], [404, "recording-not-found"]])) {
  test(`${status} ${code} stops the upload, is told, and keeps every chunk until it is discarded`, async () => {
    server.faults = Array.from({ length: 3 }, () => ({ status, code }));
    await leave(5);
    await open();
    assert.equal(await stop(), code);
    assert.equal(await pending(), 5);
    assert.ok((await errors()).includes(code));
    assert.ok(server.puts.length <= 3, "nothing more is sent");
    await page.evaluate(() => recorder.discard());
    assert.equal(await pending(), "none");
  });
}

test("after a refusal, retry sends what was kept", async () => {
  server.faults = Array.from({ length: 3 }, () => ({ status: 403, code: "forbidden" }));
  await leave(3);
  await open();
  assert.equal(await stop(), "forbidden");
  server.faults = [];
  await page.evaluate(() => recorder.retry());
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(3));
});

test("a server that confirms other bytes is not believed", async () => {
  await leave(1);
  server.routes.push((request, response) => {
    if (request.method !== "PUT") return false;
    response.end(JSON.stringify({ data: { size: 1000, sha256: "00".repeat(32) } }));
    return true;
  });
  await open();
  assert.equal(await stop(), "acknowledgement-mismatch");
  server.routes = [];
  assert.equal(await pending(), 1);
});

test("chunks recorded offline wait in the browser and go out when the network is back", async () => {
  await open();
  await record(1);
  await context.setOffline(true);
  await page.evaluate(() => new Promise((resolve) => recorder.on("progress", (p) => p.pendingChunks >= 2 && resolve(undefined))));
  assert.equal(await page.evaluate(() => recorder.status.upload), "offline");
  await context.setOffline(false);
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(held().chunks.size));
});

test("a tab reloaded in the middle uploads what it had and goes on at the next number", async () => {
  await open();
  await record(2);
  server.faults = ["hang", "hang", "hang"];
  await page.evaluate(() => new Promise((resolve) => recorder.on("progress", (p) => p.pendingChunks >= 2 && resolve(undefined))));
  await page.close();
  server.faults = [];
  page = await newTab();
  const [left] = await page.evaluate(() => unfinishedTracks());
  assert.ok(left.pendingChunks >= 2);
  await open();
  await page.evaluate(() => recorder.stop === undefined); // opened: the old chunks are on their way
  await record(left.nextSequence + 2);
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(held().chunks.size));
  assert.equal(held().chunks.get(left.nextSequence)?.subarray(0, 4).toString("hex"), "1a45dfa3", "a new session begins there");
  assert.ok(!server.puts.some(({ status }) => status === 409), "no number was used twice");
});

test("a browser that lost its storage goes on after the server's last number", async () => {
  for (const n of [0, 1, 2]) held().chunks.set(n, Buffer.from([n]));
  await open();
  await record(4);
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(held().chunks.size));
  assert.deepEqual([...(held().chunks.get(2) ?? [])], [2], "what was held is untouched");
});

test("a second tab is refused while the first works on the same track", async () => {
  await open();
  const second = await newTab();
  const code = await open(second).then(() => "opened", (error) => error.message);
  assert.match(code, /another tab/);
});

test("a full backlog ends the recording, says so, and loses nothing", async () => {
  server.faults = Array.from({ length: 200 }, () => ({ status: 503, code: "draining" }));
  await open(page, { backlogMaxBytes: 1 });
  const ended = page.evaluate(() => new Promise((resolve) => recorder.on("state", (s) => s.state === "ready" && errors.length > 0 && resolve(undefined))));
  await record(1);
  await ended;
  assert.deepEqual(await errors(), ["backlog-full"]);
  server.faults = [];
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), upTo(held().chunks.size));
});

test("a blob larger than a chunk may be is cut into several", async () => {
  await open();
  await page.evaluate(async () => {
    const big = new Blob([new Uint8Array(20 * 1024 ** 2)], { type: "video/mp4" });
    class OneBlobRecorder extends EventTarget {
      static isTypeSupported = () => true;
      state = "inactive";
      mimeType = "video/mp4";
      start() {
        this.state = "recording";
        queueMicrotask(() => this.dispatchEvent(new Event("start")));
      }
      stop() {
        this.state = "inactive";
        for (const data of [big, new Blob()]) this.dispatchEvent(new BlobEvent("dataavailable", { data }));
        this.dispatchEvent(new Event("stop"));
      }
    }
    globalThis.MediaRecorder = OneBlobRecorder; // iOS hands over one blob at the end; no such browser runs here
    await recorder.start(new MediaStream());
  });
  assert.equal(await stop(), "complete");
  assert.deepEqual(sequences(), [0, 1, 2]);
  const all = createHash("sha256").update(Buffer.concat(upTo(3).map((k) => held().chunks.get(k) ?? Buffer.alloc(0)))).digest("hex");
  assert.equal(all, createHash("sha256").update(Buffer.alloc(20 * 1024 ** 2)).digest("hex"));
});
