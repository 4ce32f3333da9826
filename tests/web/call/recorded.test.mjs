/**
 * A call that the server records: pages beep and flash at known instants of the wall clock, and the files do at the same.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, where the files are.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { drawnBy, flashed, gapsOf, keepsThePlan } from "./plan.mjs";
import { Stage, api, completed } from "./stage.mjs";

const RECORD_MS = 30_000;
/** When bob mutes, and when cyd's page goes, after the start; and for how long. */
const MUTE_AT_MS = 8_000;
const MUTED_MS = 5_000;
const GONE_AT_MS = 17_000;
const GONE_MS = 3_000;
/** How far the ends of gaps may be from what was done: a page is loaded, and connects. */
const GAP_OFF_MAX_MS = 3_000;

test("three people who are recorded beep and flash in their files when they did", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "beeps" });
  try {
    const { recording, drawn, lasts, muted, gone } = await record(stage);
    await keepsThePlan(recording, drawn, lasts);
    tells(recording, "bob", "muted", muted);
    tells(recording, "cyd", "disconnected", gone);
  } finally {
    await stage.close();
  }
});

/** @param {Stage} stage */
async function record(stage) {
  const [ann, bob, cyd] = [await stage.person("ann"), await stage.person("bob"), await stage.person("cyd")];
  for (const person of [ann, bob, cyd]) await person.join({ media: "beeps" });
  await stage.flows([ann, bob, cyd]);
  const { id, begun } = await stage.record(ann);
  const since = () => Date.now() - begun;
  const [muted, gone] = [{ from: 0, to: 0 }, { from: 0, to: 0 }];
  await flashed(ann, begun + MUTE_AT_MS);
  muted.from = since();
  await bob.send("mute");
  await flashed(ann, begun + muted.from + MUTED_MS);
  muted.to = since();
  await bob.send("unmute");
  await flashed(ann, begun + GONE_AT_MS);
  gone.from = since();
  await cyd.page.goto("about:blank");
  await flashed(ann, begun + gone.from + GONE_MS);
  gone.to = since();
  await cyd.open();
  await cyd.join({ media: "beeps" });
  await flashed(ann, begun + RECORD_MS);
  const lasts = since();
  const drawn = Object.fromEntries(await Promise.all([ann, bob, cyd].map(drawnBy)));
  await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
  const recording = await completed(stage.host, stage.call.id, id);
  console.log(JSON.stringify(recording.tracks.map(({ participantId, kind, duration, gaps }) => ({ participantId, kind, duration, gaps }))));
  return { recording, drawn, lasts, muted, gone };
}

/** Both media tell a gap of that reason, of about that span, and none of a reason that would be untrue there. */
function tells(recording, user, reason, { from, to }) {
  for (const kind of ["audio", "video"]) {
    const gaps = gapsOf(recording, user, kind);
    const near = gaps.filter((gap) => Math.abs(gap.from - from) < GAP_OFF_MAX_MS && Math.abs(gap.to - to) < GAP_OFF_MAX_MS);
    assert.ok(near.some((gap) => gap.reason === reason), `${user}'s ${kind} does not tell ${reason}: ${JSON.stringify(gaps)}`);
    assert.deepEqual(near.filter((gap) => gap.reason !== reason), [], `${user}'s ${kind}`);
  }
}
