/** The plan that pages beep and flash by, and how finished files are held against it. */
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { beeps, flashes, pictures } from "./instants.mjs";

const DATA = process.env.CALLREEL_DATA ?? "";
/** How far instants of the files may be from each other and from the plan. */
const OFF_MAX_MS = 40;
/** Pages beep and flash at every whole such time. */
const PERIOD_MS = 2_000;
/** After a person comes back, this long may pass until pictures and sound are whole. */
const SETTLES_MS = 4_000;

/** How long after a pause pictures are whole: a keyframe is asked for. */
const RESUMES_MS = 1_000;
/** By the wall clock. @typedef {{ from: number, to: number }} Pause */
/** @type {Pause} */ const NO_PAUSE = { from: Infinity, to: Infinity };

/**
 * Everybody's file has an index, and every beep and flash that was while they were there, at its instant. Beeps keep the plan; a
 * flash is drawn with the page's next picture, which a busy machine delays, and so the file is held against when it was drawn.
 * @param {any} recording @param {Record<string, number[]>} drawn by user, by the wall clock @param {number} lasts milliseconds
 * @param {{ only?: "flash" | "beep", pause?: Pause }} [what] of it all; what was not recorded in between
 */
export async function keepsThePlan(recording, drawn, lasts, { only, pause = NO_PAUSE } = {}) {
  /** @type {Held} */
  const held = new Map();
  for (const [user, walls] of Object.entries(drawn)) {
    const file = await fileOf(recording, user);
    await isSeekable(file);
    const away = gapsOf(recording, user, "video").filter(({ reason }) => reason === "muted" || reason === "disconnected");
    const all = planned(Date.parse(recording.startedAt), lasts, away);
    const there = all.filter((at) => at < pause.from - RESUMES_MS || at > pause.to + RESUMES_MS);
    const found = (/** @type {number[]} */ times) => times.map((ms) => (ms < pause.from - Date.parse(recording.startedAt) ? ms : ms + pause.to - pause.from));
    if (only !== "beep") hold(recording, `${user} flash`, found(await flashes(file)), there, walls, held);
    if (only !== "flash") hold(recording, `${user} beep`, found(await beeps(file)), there, [], held);
  }
  areTogether(recording, held);
}

/**
 * The same of a screen that was shared: it is the second picture and the second sound of its person's file.
 * @param {any} recording @param {string} user @param {number[]} walls when it flashed @param {number} lasts
 */
export async function screenKeepsThePlan(recording, user, walls, lasts) {
  const file = await fileOf(recording, user);
  const there = planned(Date.parse(recording.startedAt), lasts, gapsOf(recording, user, "screen"));
  /** @type {Held} */
  const held = new Map();
  hold(recording, `${user}'s screen flash`, await flashes(file, 1), there, walls, held);
  hold(recording, `${user}'s screen beep`, await beeps(file, 1), there, [], held);
  areTogether(recording, held);
}

/** By how much files are off, by the instant. @typedef {Map<number, number[]>} Held */

/**
 * Notes by how much a file is off at each instant, at all of which it has to be there.
 * @param {any} recording @param {string} what @param {number[]} found @param {number[]} there @param {number[]} walls @param {Held} held
 */
function hold(recording, what, found, there, walls, held) {
  const zero = Date.parse(recording.startedAt);
  const late = new Map(walls.map((wall) => [nearest(wall), wall - nearest(wall)]));
  const offs = found.map((ms) => [nearest(ms + zero), ms + zero - nearest(ms + zero) - (late.get(nearest(ms + zero)) ?? 0)]);
  console.log(`${what}: off by ${offs.map(([, off]) => Math.round(off)).join(" ")} ms`);
  for (const at of there) {
    const hit = offs.find(([plan]) => plan === at);
    assert.ok(hit, `${what}: none at ${at - zero} ms; there are ${found.map(Math.round).join(" ")}`);
    held.set(at, [...(held.get(at) ?? []), hit[1]]);
  }
}

/** @param {any} recording @param {Held} held */
function areTogether(recording, held) {
  const zero = Date.parse(recording.startedAt);
  assert.ok(held.size > 0, "nothing was held against the plan");
  for (const [at, offs] of held) {
    const [least, most] = [Math.min(...offs), Math.max(...offs)];
    assert.ok(least >= -OFF_MAX_MS && most <= OFF_MAX_MS, `at ${at - zero} ms files are off by ${offs}`);
    assert.ok(most - least <= OFF_MAX_MS, `at ${at - zero} ms files differ by ${offs}`);
  }
}

/** Somebody's file. @param {any} recording @param {string} user */
export async function fileOf(recording, user) {
  const folder = join(DATA, "recordings", "recordings", recording.id, "participants");
  const name = (await readdir(folder)).find((name) => name.startsWith(`${user}.`));
  assert.ok(name, `${user} has no file`);
  return join(folder, name);
}

/** @param {number} wall */
export const nearest = (wall) => Math.round(wall / PERIOD_MS) * PERIOD_MS;

/** When a file has to flash and beep: while the person was there, and not just come. @param {number} zero @param {number} lasts @param {{ from: number, to: number }[]} away */
export function planned(zero, lasts, away) {
  const found = [];
  for (let at = nearest(zero) + PERIOD_MS; at < zero + lasts - PERIOD_MS / 2; at += PERIOD_MS) {
    if (!away.some(({ from, to }) => at - zero > from - PERIOD_MS / 4 && at - zero < to + SETTLES_MS)) found.push(at);
  }
  return found;
}

export function gapsOf(recording, user, kind) {
  return recording.tracks.find((track) => track.participantId === user && track.kind === kind).gaps;
}

/** What begins the index and what begins the media: Matroska's ids of Cues and Cluster, MP4's names of boxes. */
const INDEX = { webm: ["1c53bb6b", "1f43b675"], mp4: ["6d6f6f76", "6d646174"] };

/**
 * The index stands before the media, and from the middle on the file shows what it shows there
 * when it is played from its beginning. @param {string} file
 */
async function isSeekable(file) {
  const bytes = await readFile(file);
  const [index, media] = INDEX[file.endsWith(".mp4") ? "mp4" : "webm"].map((id) => bytes.indexOf(Buffer.from(id, "hex")));
  assert.ok(index > 0 && index < media, `${file} has no index before its media`);
  const played = await pictures(file);
  const [middle] = played[Math.floor(played.length / 2)];
  const [sought] = await pictures(file, middle);
  assert.deepEqual(sought, [middle, played.find(([at]) => at === middle)?.[1]], `${file} shows something else from ${middle} ms on`);
}

/** When somebody's page flashed. @param {import("./stage.mjs").Person} person @returns {Promise<[string, number[]]>} */
export async function drawnBy({ user, page }) {
  return [user, await page.evaluate(() => window.flashes)];
}

/**
 * Waits until somebody's page has flashed at an instant of the wall clock or later: until that much of the call is there to be recorded.
 * @param {import("./stage.mjs").Person} person @param {number} wall
 */
export const flashed = (person, wall) => person.until((/** @type {number} */ wall) => (window.flashes.at(-1) ?? 0) >= wall, wall);
