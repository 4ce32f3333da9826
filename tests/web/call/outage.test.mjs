/**
 * The database goes away in the middle of a recorded call: sound and picture, capture and mutes go on, and the rows follow.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, with its database; its supervisor starts that again.
 */
import assert from "node:assert/strict";
import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Program } from "./outside.mjs";
import { drawnBy, flashed, gapsOf, keepsThePlan } from "./plan.mjs";
import { Stage, api, completed } from "./stage.mjs";

const DATA = process.env.CALLREEL_DATA ?? "";
/** When the database goes after the start of the recording, and how long it is away at least. */
const GOES_AT_MS = 5_000;
const AWAY_MS = 20_000;
/** When somebody mutes while it is away, and for how long. */
const MUTE_AFTER_MS = 4_000;
const MUTED_MS = 5_000;
/** How far a mute in the file may be from the one that was asked for. */
const MUTE_OFF_MAX_MS = 1_000;

test("a recorded call goes on while the database is away for twenty seconds", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "outage" });
  const database = new Program("tail", ["-n", "0", "-F", join(DATA, "logs", "postgres.log")]);
  let comesBack = async () => {};
  try {
    const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
    for (const person of [ann, bob]) await person.join({ media: "beeps" });
    await stage.flows([ann, bob]);
    const { id, begun } = await stage.record(ann);
    await flashed(ann, begun + GOES_AT_MS);
    comesBack = await stopDatabase(database);
    const gone = Date.now();
    await assert.rejects(api(stage.host, "GET", `/video-calls/${stage.call.id}`), "the database is away");
    await flashed(ann, gone + MUTE_AFTER_MS);
    const muted = Date.now() - begun;
    await bob.send("mute");
    await ann.told("mute", "bob");
    await flashed(ann, begun + muted + MUTED_MS);
    const unmuted = Date.now() - begun;
    await bob.send("unmute");
    await ann.told("unmute", "bob");
    await stage.flows([ann, bob]);
    await flashed(ann, gone + AWAY_MS);
    await comesBack();
    console.log(`the database was away for ${Date.now() - gone} ms`);
    const drawn = Object.fromEntries(await Promise.all([ann, bob].map(drawnBy)));
    const lasts = Date.now() - begun;
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    const recording = await completed(stage.host, stage.call.id, id);
    for (const user of ["ann", "bob"]) {
      for (const kind of ["audio", "video"]) {
        const gaps = gapsOf(recording, user, kind);
        console.log(`${user} ${kind}: ${JSON.stringify(gaps)}`);
        const mutes = gaps.filter(({ reason }) => reason === "muted");
        assert.equal(mutes.length, user === "bob" ? 1 : 0, `${user}'s ${kind}`);
        for (const { from, to } of mutes) {
          assert.ok(Math.abs(from - muted) < MUTE_OFF_MAX_MS && Math.abs(to - unmuted) < MUTE_OFF_MAX_MS, `${from} to ${to}`);
        }
        assert.deepEqual(gaps.filter(({ reason }) => reason === "disconnected" || reason === "disk"), [], `${user}'s ${kind}`);
      }
    }
    await keepsThePlan(recording, drawn, lasts);
  } finally {
    await comesBack();
    await database.kill();
    await stage.close();
  }
});

/**
 * Ends the database as an operator does, and takes a folder of it away, so that its supervisor cannot start it. Returns what
 * gives it back, once, and waits until it answers.
 * @param {Program} database its log
 */
async function stopDatabase(database) {
  const says = (/** @type {string} */ words) => database.line((line) => line.includes(words), words);
  const [pid, home] = (await readFile(join(DATA, "postgres", "postmaster.pid"), "utf8")).split("\n");
  const ended = says("database system is shut down");
  process.kill(Number(pid), "SIGINT");
  await ended;
  const needed = join(home, "global");
  await rename(needed, `${needed}.away`);
  let away = true;
  return async () => {
    if (!away) return;
    away = false;
    const answers = says("database system is ready to accept connections");
    await rename(`${needed}.away`, needed);
    await answers;
  };
}
