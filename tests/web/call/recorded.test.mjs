/**
 * A call that the server records: pages beep and flash at known instants of the wall clock, and the files do at the same.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, where the files are.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { drawnBy, gapsOf, keepsThePlan } from "./plan.mjs";
import { Stage, api, completed } from "./stage.mjs";

const RECORD_MS = 30_000;
/** When bob mutes, and when cyd's page goes, after the start; and for how long. */
const MUTE_AT_MS = 8_000;
const MUTED_MS = 5_000;
const GONE_AT_MS = 17_000;
const GONE_MS = 3_000;
/** How far the ends of gaps may be from what was done: a page is loaded, and connects. */
const GAP_OFF_MAX_MS = 3_000;

/** The passing of time is what is recorded: nothing else could be waited for. */
const passes = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("three people who are recorded beep and flash in their files when they did", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "beeps" });
  try {
    const { recording, drawn } = await record(stage);
    await keepsThePlan(recording, drawn, RECORD_MS);
    tells(recording, "bob", "muted", MUTE_AT_MS, MUTE_AT_MS + MUTED_MS);
    tells(recording, "cyd", "disconnected", GONE_AT_MS, GONE_AT_MS + GONE_MS);
  } finally {
    await stage.close();
  }
});

/** @param {Stage} stage */
async function record(stage) {
  const [ann, bob, cyd] = [await stage.person("ann"), await stage.person("bob"), await stage.person("cyd")];
  for (const person of [ann, bob, cyd]) await person.join({ media: "beeps" });
  await stage.flows([ann, bob, cyd]);
  const started = await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/start`, {});
  const begun = Date.parse(started.startedAt);
  await ann.told("recording-started");
  await passes(begun + MUTE_AT_MS - Date.now());
  await bob.send("mute");
  await passes(begun + MUTE_AT_MS + MUTED_MS - Date.now());
  await bob.send("unmute");
  await passes(begun + GONE_AT_MS - Date.now());
  await cyd.page.goto("about:blank");
  await passes(begun + GONE_AT_MS + GONE_MS - Date.now());
  await cyd.open();
  await cyd.join({ media: "beeps" });
  await passes(begun + RECORD_MS - Date.now());
  const drawn = Object.fromEntries(await Promise.all([ann, bob, cyd].map(drawnBy)));
  await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
  const recording = await completed(stage.host, stage.call.id, started.id);
  console.log(JSON.stringify(recording.tracks.map(({ participantId, kind, duration, gaps }) => ({ participantId, kind, duration, gaps }))));
  return { recording, drawn };
}

/** Both media tell a gap of that reason, of about that span, and none of a reason that would be untrue there. */
function tells(recording, user, reason, from, to) {
  for (const kind of ["audio", "video"]) {
    const gaps = gapsOf(recording, user, kind);
    const near = gaps.filter((gap) => Math.abs(gap.from - from) < GAP_OFF_MAX_MS && Math.abs(gap.to - to) < GAP_OFF_MAX_MS);
    assert.ok(near.some((gap) => gap.reason === reason), `${user}'s ${kind} does not tell ${reason}: ${JSON.stringify(gaps)}`);
    assert.deepEqual(near.filter((gap) => gap.reason !== reason), [], `${user}'s ${kind}`);
  }
}
