/**
 * aiortc, a WebRTC that shares nothing with browsers' or with ours, in a call with another aiortc and a Chromium, recorded.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder. CALLREEL_PYTHON: a Python that has aiortc.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Outsider, decoded } from "./outside.mjs";
import { Stage, api, completed } from "./stage.mjs";

const RECORD_S = 8;
/** How far a file's length may be from the recording's: a group of pictures that was not whole, and a stop that is on its way. */
const LENGTH_OFF_MAX_MS = 1_000;

test("aiortc publishes to and hears another aiortc and a Chromium, and is recorded", { timeout: 300_000 }, async () => {
  const stage = await Stage.open({ title: "aiortc" });
  const outsiders = [await Outsider.of(stage, "pia"), await Outsider.of(stage, "quin")];
  try {
    const [pia, quin] = outsiders;
    await Promise.all([pia.grown(["quin"]), quin.grown(["pia"])]);
    const ann = await stage.person("ann");
    await ann.join();
    await Promise.all([pia.grown(["quin", "ann"]), quin.grown(["pia", "ann"]), stage.sees(ann, ["pia", "quin"])]);

    const started = await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/start`, {});
    await pia.until((told) => told.frames.includes("recording-started"), "the recording is told");
    await Promise.all([pia.grown(["quin"], RECORD_S), quin.grown(["pia"], RECORD_S)]);
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    await Promise.all([pia.grown(["quin", "ann"]), stage.sees(ann, ["pia", "quin"])]);
    await quin.leave();
    await ann.told("participant-left", "quin");
    await pia.leave();

    const recording = await completed(stage.host, stage.call.id, started.id);
    const lasted = Date.parse(recording.stoppedAt) - Date.parse(recording.startedAt);
    for (const user of ["pia", "quin", "ann"]) {
      const length = await decoded(recording, user);
      console.log(`${user}: ${Math.round(length)} ms of ${lasted} ms`);
      assert.ok(Math.abs(length - lasted) < LENGTH_OFF_MAX_MS, `${user}'s file lasts ${length} ms of ${lasted}`);
    }
  } finally {
    await Promise.all(outsiders.map((outsider) => outsider.kill()));
    await stage.close();
  }
});
