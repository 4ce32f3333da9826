/**
 * The edge dies in the middle of a recorded call: what was captured is in the result, and who comes back goes on in it.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, with `edge.pid`; its supervisor starts it again.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Program } from "./outside.mjs";
import { drawnBy, flashed, gapsOf, keepsThePlan } from "./plan.mjs";
import { Stage, api, completed } from "./stage.mjs";

const DATA = process.env.CALLREEL_DATA ?? "";
/** When the edge is killed after the start of the recording, and how long the call goes on after people are back. */
const KILLED_AT_MS = 11_000;
const GOES_ON_MS = 11_000;
/** What a killed edge may lose: what it was about to write. */
const LOST_MAX_MS = 500;

test("an edge that is killed loses nothing it had captured, and the recording goes on with those who come back", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "killed" });
  const edge = new Program("tail", ["-n", "0", "-F", join(DATA, "logs", "edge.log")]);
  try {
    const people = [await stage.person("ann"), await stage.person("bob")];
    for (const person of people) await person.join({ media: "beeps" });
    await stage.flows(people);
    const { id, begun } = await stage.record(people[0]);
    await flashed(people[0], begun + KILLED_AT_MS);
    const listens = edge.line((line) => line.includes("listening on"), "it listens again");
    process.kill(Number(await readFile(join(DATA, "edge.pid"), "utf8")), "SIGKILL");
    const killed = Date.now() - begun;
    await Promise.all(people.map((person) => person.until(() => window.call.closed !== undefined)));
    await listens;
    for (const person of people) {
      const { recording } = await person.reload({ media: "beeps" });
      // The first one opens the room, and is told right after.
      if (recording === null) await person.told("recording-started");
      else assert.equal(recording, id, "the recording goes on");
    }
    await stage.flows(people);
    const back = Date.now() - begun;
    await flashed(people[0], begun + back + GOES_ON_MS);
    const drawn = Object.fromEntries(await Promise.all(people.map(drawnBy)));
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    const stopped = Date.now() - begun;
    const recording = await completed(stage.host, stage.call.id, id);
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
    await edge.kill();
    await stage.close();
  }
});
