/**
 * A recording that is paused: what is said meanwhile is in no file, and what follows stands where the pause began.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, where the files are.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decoded } from "./outside.mjs";
import { drawnBy, flashed, gapsOf, keepsThePlan } from "./plan.mjs";
import { Stage, api } from "./stage.mjs";

/** When the host pauses, goes on and stops, after the start. */
const [PAUSED_MS, RESUMED_MS, STOPPED_MS] = [6_000, 13_000, 20_000];
/** How far a file's length may be from the recording's: a group of pictures that was not whole, and a stop that is on its way. */
const LENGTH_OFF_MAX_MS = 1_000;
/** How far the place in the files where the pause was cut out may be from what the host was told. */
const SEAM_OFF_MAX_MS = 100;
/** Until when a picture that is whole, or the next sound, has come. */
const RESUMES_WITHIN_MS = 1_000;

test("what is said while a recording is paused is in no file, also of somebody who comes meanwhile", { timeout: 300_000 }, async () => {
  const stage = await Stage.open({ title: "paused" });
  try {
    const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
    await ann.join({ media: "beeps" });
    const turn = async (/** @type {string} */ word) => Date.parse((await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/${word}`)).since);
    const { id, begun } = await stage.record(ann);
    await flashed(ann, begun + PAUSED_MS);
    const from = await turn("pause");
    assert.deepEqual((await ann.told("recording-paused")).data, { recordingId: id });
    await bob.join({ media: "beeps" });
    await stage.flows([ann, bob]);
    await flashed(ann, begun + RESUMED_MS);
    const to = await turn("resume");
    assert.deepEqual((await ann.told("recording-resumed")).data, { recordingId: id });
    await flashed(ann, to + STOPPED_MS - RESUMED_MS);
    const lasts = Date.now() - begun;
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    assert.deepEqual((await ann.told("recording-completed")).data, { recordingId: id });
    const recording = await api(stage.host, "GET", `/video-calls/${stage.call.id}/recording/${id}`);
    console.log(JSON.stringify(recording.tracks.map(({ participantId, kind, gaps }) => ({ participantId, kind, gaps }))));

    const kept = lasts - (to - from);
    for (const user of ["ann", "bob"]) {
      const length = await decoded(recording, user);
      assert.ok(Math.abs(length - kept) < LENGTH_OFF_MAX_MS, `${user}'s file lasts ${length} ms of ${kept}`);
      for (const kind of ["audio", "video"]) {
        const seams = gapsOf(recording, user, kind).filter(({ reason }) => reason === "paused");
        const told = `${user}'s ${kind}: ${JSON.stringify(seams)} at ${from - begun}`;
        assert.equal(seams.length, 1, told);
        assert.ok(Math.abs(seams[0].from - (from - begun)) < SEAM_OFF_MAX_MS && seams[0].to - seams[0].from < RESUMES_WITHIN_MS, told);
      }
    }
    const drawn = Object.fromEntries(await Promise.all([ann, bob].map(drawnBy)));
    await keepsThePlan(recording, drawn, lasts, { pause: { from, to } });
  } finally {
    await stage.close();
  }
});
