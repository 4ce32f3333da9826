/**
 * The player in a real Chromium, with recordings of which a blob was lost: playback ends nowhere but at the end.
 * The files are what browsers recorded, without the packets of a span, which FFmpeg leaves out; nothing sleeps.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchChromium } from "../support/browsers.mjs";
import { ChunkServer } from "../support/chunk-server.mjs";

const FIXTURES = fileURLToPath(new URL("../../data/mediarecorder/", import.meta.url));
/** Played faster than it was recorded, so that the test is shorter. */
const RATE = 4;

/** @type {import("playwright-core").Browser} */ let browser;
/** @type {ChunkServer} */ let server;
/** @type {import("playwright-core").Page} */ let page;
/** What the server has, by path. @type {Map<string, Buffer>} */ const files = new Map();
let folder = "";

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "player-"));
  browser = await launchChromium();
  server = await new ChunkServer().listen();
  server.routes.push(media);
});
after(async () => {
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  await page?.close();
  page = await browser.newPage();
  await page.goto(`${server.url}/blank`);
});

/** An empty page of the origin, and files by ranges as the edge answers them. @type {(typeof server.routes)[number]} */
function media(request, response) {
  const file = files.get(request.url ?? "");
  if (request.url === "/blank") return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>"), true;
  if (file === undefined) return false;
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "bytes=0-") ?? [];
  const [first, last] = [Number(from), to ? Number(to) : file.length - 1];
  const headers = { "content-type": "video/webm", "accept-ranges": "bytes", "content-length": last - first + 1 };
  response.writeHead(206, { ...headers, "content-range": `bytes ${first}-${last}/${file.length}` });
  response.end(file.subarray(first, last + 1));
  return true;
}

/** Serves a fixture without the packets of a span, in seconds. */
function lose(/** @type {string} */ fixture, /** @type {number} */ fromS, /** @type {number} */ toS) {
  const [whole, lost] = [join(folder, "whole.webm"), join(folder, "lost.webm")];
  const blobs = readdirSync(join(FIXTURES, fixture)).filter((name) => name.endsWith(".bin")).sort();
  writeFileSync(whole, Buffer.concat(blobs.map((name) => readFileSync(join(FIXTURES, fixture, name)))));
  const copy = ["-map", "0", "-c", "copy", "-copyinkf", "-cues_to_front", "1", "-bsf", `noise=drop='between(pts*tb,${fromS},${toS})'`];
  execFileSync("ffmpeg", ["-v", "error", "-y", "-f", "matroska", "-i", whole, ...copy, lost]);
  files.set("/lost.webm", readFileSync(lost));
}

/** Plays it to its end in the player, told of `gaps`; resolves with what the page says and where playback jumped to. */
function play(/** @type {{ from: number, to: number }[]} */ gaps) {
  return page.evaluate(
    async ([gaps, rate]) => {
      const { playerView } = await import("/views/player.js");
      const api = { downloadUrl: async () => "/lost.webm", thumbnailUrl: async () => "/favicon.svg" };
      const recording = { id: "rec_1", callId: "call_1", duration: 0, thumbnails: [], tracks: [{ gaps }] };
      const { video, element } = await playerView(api, recording, new AbortController().signal);
      document.body.append(element);
      Object.assign(video, { muted: true, defaultPlaybackRate: rate, playbackRate: rate });
      const jumps = [];
      video.addEventListener("seeked", () => jumps.push(video.currentTime));
      const alert = element.querySelector("[role=alert]");
      const over = new Promise((resolve) => {
        video.addEventListener("ended", () => resolve("ended"));
        new MutationObserver(() => resolve("failed")).observe(alert, { childList: true });
      });
      await video.play().catch(() => {});
      return { over: await over, said: element.querySelector("[role=status]").textContent, jumps, error: video.error?.message };
    },
    /** @type {const} */ ([gaps, RATE]),
  );
}

for (const [fixture, keyframeS] of /** @type {const} */ ([["chrome-webm-vp9", 5.05], ["ff-webm-vp8", 7.44]])) {
  test(`${fixture} with a blob lost in the middle plays on behind the gap, up to the end`, async () => {
    lose(fixture, 3, 4.2);
    const { over, said, jumps, error } = await play([{ from: 3000, to: 4200 }]);
    assert.equal(over, "ended", error);
    assert.match(said, /^Some pictures after a gap/);
    assert.ok(jumps.length > 0 && Math.max(...jumps) < keyframeS + 1, `jumped to ${jumps}`);
  });

  test(`${fixture} without its first blob plays from its first keyframe on`, async () => {
    lose(fixture, 0, 1.1);
    const { over, jumps, error } = await play([{ from: 0, to: 1100 }]);
    assert.equal(over, "ended", error);
    assert.ok(Math.max(...jumps, 0) < keyframeS + 1, `jumped to ${jumps}`);
  });
}

test("a recording without gaps that does not decode says so, and nothing is skipped", async () => {
  lose("chrome-webm-vp9", 3, 4.2);
  const { over, said, jumps } = await play([]);
  assert.deepEqual([over, said, jumps], ["failed", "", []]);
});
