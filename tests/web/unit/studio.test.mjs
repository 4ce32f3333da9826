/**
 * The studio in a real Chromium against a real HTTP server: whose recording is stopped, and that a stop is never lost.
 * No view is open, so nothing here leans on one; nothing sleeps.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { launchChromium } from "../support/browsers.mjs";
import { ChunkServer, json, problem } from "../support/chunk-server.mjs";

/** The rules of the product with pauses short enough for tests. */
const PACE = { retry: { baseMs: 20, maxMs: 100, diskFullBaseMs: 20, diskFullMaxMs: 100 }, watchMs: 50 };

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {ChunkServer} */ let server;
/** @type {import("playwright-core").BrowserContext} */ let context;
/** @type {import("playwright-core").Page} */ let page;
/** Statuses of the call's recordings, by id. @type {Map<string, string>} */ let recordings;
/** Ids that `POST …/recording/stop` has stopped. @type {string[]} */ let stopped;
/** What the next stops are answered instead. @type {(number | "drop" | "later")[]} */ let stopFaults;
/** What the next starts are answered instead. @type {number[]} */ let startFaults;
let stops = 0;
let count = 0;

before(async () => {
  browser = await launchChromium();
  server = await new ChunkServer().listen();
  server.routes.push(control);
});
after(async () => {
  await browser.close();
  await server.close();
});
beforeEach(async () => {
  await context?.close();
  context = await browser.newContext({ permissions: ["camera", "microphone"] });
  [recordings, stopped, stopFaults, startFaults, stops] = [new Map(), [], [], [], 0];
  page = await newTab();
});

const rows = () => [...recordings].map(([id, status]) => ({ id, callId: "call_1", status, startedAt: "2026-01-01T00:00:00Z" }));
const live = () => [...recordings].find(([, status]) => status === "recording")?.[0];

/**
 * The control routes of one call, as far as the studio uses them.
 * @type {(typeof server.routes)[number]}
 */
function control(request, response) {
  const [, read] = /^\/video-calls\/call_1\/recording\/(rec_\d+)$/.exec(request.url ?? "") ?? [];
  if (request.url === "/video-calls/call_1/recording/start") start(response);
  else if (request.url === "/video-calls/call_1/recording/stop") stop(response);
  else if (request.url === "/video-calls/call_1") json(response, 200, { id: "call_1", hostId: "ada", title: "Review" });
  else if (request.url?.startsWith("/video-calls/call_1/recordings?")) json(response, 200, rows());
  else if (read !== undefined) recordings.has(read) ? json(response, 200, { id: read, status: recordings.get(read) }) : problem(response, 404, "no-such-recording");
  else return false;
  return true;
}

function start(response) {
  const fault = startFaults.shift();
  if (fault !== undefined) return problem(response, fault, "refused");
  if (live() !== undefined) return problem(response, 409, "recording-already-live");
  const recordingId = `rec_${++count}`;
  recordings.set(recordingId, "recording");
  json(response, 201, { recordingId });
}

/** As the product's: it stops whichever is live. */
function stop(response) {
  stops += 1;
  const fault = stopFaults.shift();
  if (fault === "drop") return response.destroy();
  if (fault === "later") return problem(response, 503, "draining", { "retry-after": "100" });
  if (fault !== undefined) return problem(response, fault, "refused");
  const id = live();
  if (id === undefined) return problem(response, 409, "not-recording");
  recordings.set(id, "stopping");
  stopped.push(id);
  json(response, 202, { recordingId: id });
}

async function newTab() {
  const tab = await context.newPage();
  await tab.goto(`${server.url}/favicon.svg`); // the origin, without the page's own studio
  await tab.evaluate(async (pace) => {
    const modules = await Promise.all(["/api.js", "/ending.js", "/recorder.js", "/studio.js"].map((url) => import(url)));
    Object.assign(globalThis, ...modules);
    globalThis.studio = new Studio(new Api(() => "t"), () => "t", pace);
    globalThis.until = (test) => new Promise((resolve) => {
      const look = () => test() && resolve(undefined);
      studio.addEventListener("change", look);
      look();
    });
  }, PACE);
  return tab;
}

/** Presses record, and waits for the first chunk, or for the studio to give up. */
async function record() {
  await page.evaluate(async () => {
    await studio.record({ callId: "call_1", userId: "ada", host: true });
    await until(() => studio.state === "idle" || studio.progress?.recordedChunks > 0);
  });
}

const state = () => page.evaluate(() => studio.state);
const noted = () => page.evaluate(() => notedStops().map((stop) => stop.recordingId));

test("a stop that meets 503, 429 and a lost network is tried until it is answered, and the trouble is told", async () => {
  await record();
  const id = live();
  stopFaults = [503, 429, "drop"];
  const troubled = page.evaluate(() => until(() => studio.state === "finishing" && studio.trouble !== undefined));
  await page.evaluate(() => studio.stop());
  await troubled;
  assert.deepEqual([await state(), stopped, await noted()], ["finished", [id], []]);
  assert.equal(await page.evaluate(() => studio.trouble), undefined);
});

test("a tab closed before its stop was answered leaves a note, and the next tab stops the recording", async () => {
  await record();
  const id = live();
  stopFaults = Array(1000).fill(503);
  await page.evaluate(() => void studio.stop());
  await server.until(() => stops >= 2);
  await page.close();
  page = await newTab();
  assert.deepEqual([await noted(), await page.evaluate(() => unfinishedTracks())], [[id], []]);
  stopFaults = [];
  await page.evaluate(() => studio.resumeStop(notedStops()[0]));
  assert.deepEqual([await state(), stopped, await noted()], ["finished", [id], []]);
});

test("a page that is loaded again goes on with the stop, and has a button to try at once", async () => {
  recordings.set("rec_902", "recording");
  stopFaults = ["later"];
  await page.evaluate(() => {
    localStorage.setItem("callreel-session", JSON.stringify({ token: "t", userId: "ada", name: "Ada", source: "pasted" }));
    localStorage.setItem("callreel-stops", JSON.stringify([{ recordingId: "rec_902", callId: "call_1", userId: "ada", host: true }]));
  });
  await page.goto(`${server.url}/#/calls/call_1`);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForSelector('[data-testid="status"][data-state="finished"]');
  assert.deepEqual([stopped, await page.evaluate(() => localStorage.getItem("callreel-stops"))], [["rec_902"], null]);
  assert.ok(await page.locator('[data-testid="trouble"]').isHidden());
});

test("a stop that is refused for good is told and given up", async () => {
  await record();
  stopFaults = [403];
  await page.evaluate(() => studio.stop());
  assert.deepEqual([await state(), await page.evaluate(() => studio.trouble.code), await noted()], ["finished", "refused", []]);
});

test("somebody else's newer recording is not stopped", async () => {
  await record();
  recordings.set(/** @type {string} */ (live()), "completed").set("rec_900", "recording");
  await page.evaluate(() => studio.stop());
  assert.deepEqual([await state(), stops, live()], ["finished", 0, "rec_900"]);
});

for (const status of ["stopping", "failed", "gone"]) {
  test(`a recording that is ${status} elsewhere is finished here without a view and without another stop`, async () => {
    await record();
    const id = /** @type {string} */ (live());
    status === "gone" ? recordings.delete(id) : recordings.set(id, status);
    await page.evaluate(() => until(() => studio.state === "finished"));
    assert.equal(stops, 0);
    assert.notEqual(server.track(`${id}/ada/video`).complete, undefined);
  });
}

test("after a finished take, a start that fails is told, and the next one records", async () => {
  await record();
  await page.evaluate(() => studio.stop());
  startFaults = [500];
  await record();
  assert.deepEqual([await state(), await page.evaluate(() => [studio.trouble.code, studio.take ?? null])], ["idle", ["refused", null]]);
  await record();
  assert.equal(await state(), "recording");
});

for (const origin of ["started", "joined"]) {
  test(`when recording cannot begin, a recording that was ${origin} is ${origin === "started" ? "stopped" : "left alone"}`, async () => {
    if (origin === "joined") recordings.set("rec_901", "recording");
    stopFaults = [503];
    await page.evaluate(async () => {
      MediaRecorder.prototype.start = () => { throw new DOMException("no encoder", "NotSupportedError"); };
      await studio.record({ callId: "call_1", userId: "ada", host: true });
    });
    assert.equal(await state(), "idle");
    assert.notEqual(await page.evaluate(() => studio.trouble), undefined);
    assert.deepEqual([live(), stopped.length], origin === "joined" ? ["rec_901", 0] : [undefined, 1]);
  });
}

test("when recording cannot begin, what an earlier tab left of the track is kept", async () => {
  recordings.set("rec_903", "recording");
  server.faults = Array.from({ length: 100 }, () => ({ status: 503, code: "draining" }));
  const left = await page.evaluate(async () => {
    const { openChunkStore } = await import("/chunk-store.js");
    const about = { recordingId: "rec_903", kind: "video" };
    const chunk = { ...about, sequence: 0, bytes: new ArrayBuffer(9), size: 9, mimeType: "video/webm", timestampMs: 1, sha256: "" };
    const store = await openChunkStore("rec_903", "video");
    await store.append(chunk, { ...about, participantId: "ada", labels: {}, nextSequence: 1, recordedMs: 0, recordedBytes: 9, state: "open" });
    store.close();
    MediaRecorder.prototype.start = () => { throw new DOMException("no encoder", "NotSupportedError"); };
    await studio.record({ callId: "call_1", userId: "ada", host: true, liveRecordingId: "rec_903" });
    return unfinishedTracks();
  });
  server.faults = [];
  assert.deepEqual([await state(), left.map((track) => track.pendingChunks)], ["idle", [1]]);
});
