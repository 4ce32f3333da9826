/**
 * The edge dies in the middle of a recorded call: what was captured is in the result, and who comes back goes on in it.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, with `edge.pid`; its supervisor starts it again.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { drawnBy, gapsOf, keepsThePlan } from "./plan.mjs";
import { STEP_WITHIN_MS, Stage, URL_OF_EDGE, api, completed } from "./stage.mjs";

const DATA = process.env.CALLREEL_DATA ?? "";
/** When the edge is killed after the start of the recording, and how long the call goes on after people are back. */
const KILLED_AT_MS = 11_000;
const GOES_ON_MS = 11_000;
/** What a killed edge may lose: what it was about to write. */
const LOST_MAX_MS = 500;
/** Between two looks at an edge that starts. */
const LOOK_EVERY_MS = 200;

const passes = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("an edge that is killed loses nothing it had captured, and the recording goes on with those who come back", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "killed" });
  try {
    const people = [await stage.person("ann"), await stage.person("bob")];
    for (const person of people) await person.join({ media: "beeps" });
    await stage.flows(people);
    const started = await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/start`, {});
    const begun = Date.parse(started.startedAt);
    await people[0].told("recording-started");
    await passes(begun + KILLED_AT_MS - Date.now());
    process.kill(Number(await readFile(join(DATA, "edge.pid"), "utf8")), "SIGKILL");
    const killed = Date.now() - begun;
    await Promise.all(people.map((person) => person.until(() => window.call.closed !== undefined)));
    await answers();
    for (const person of people) {
      const { recording } = await person.reload({ media: "beeps" });
      // The first one opens the room, and is told right after.
      if (recording === null) await person.told("recording-started");
      else assert.equal(recording, started.id, "the recording goes on");
    }
    await stage.flows(people);
    const back = Date.now() - begun;
    await passes(GOES_ON_MS);
    const drawn = Object.fromEntries(await Promise.all(people.map(drawnBy)));
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    const stopped = Date.now() - begun;
    const recording = await completed(stage.host, stage.call.id, started.id);
    console.log(`killed at ${killed}, back at ${back}, stopped at ${stopped} ms`);
    for (const { user } of people) {
      for (const kind of ["audio", "video"]) {
        const gaps = gapsOf(recording, user, kind);
        console.log(`${user} ${kind}: ${JSON.stringify(gaps)}`);
        const gone = gaps.find((gap) => gap.from < back && gap.to > killed);
        assert.ok(gone !== undefined, `${user}'s ${kind} tells no gap: ${JSON.stringify(gaps)}`);
        // Sound may have been silent, and so without packets, for 400 ms before.
        assert.ok(gone.from > killed - LOST_MAX_MS - 400, `${user}'s ${kind} lost more than what was being written: ${JSON.stringify(gone)}`);
        assert.equal(gone.reason, "disconnected");
      }
    }
    await keepsThePlan(recording, drawn, stopped);
  } finally {
    await stage.close();
  }
});

/** Waits until the edge is ready. */
async function answers() {
  const deadline = Date.now() + STEP_WITHIN_MS;
  for (;;) {
    const ready = await fetch(`${URL_OF_EDGE}/readyz`).catch(() => null);
    if (ready?.ok) return;
    assert.ok(Date.now() < deadline, "the edge does not come back");
    await passes(LOOK_EVERY_MS);
  }
}
