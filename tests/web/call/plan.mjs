/** The plan that pages beep and flash by, and how finished files are held against it. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beeps, flashes } from "./instants.mjs";

const DATA = process.env.CALLREEL_DATA ?? "";
/** How far instants of the files may be from each other and from the plan. */
const OFF_MAX_MS = 40;
/** Pages beep and flash at every whole such time. */
const PERIOD_MS = 2_000;
/** After a person comes back, this long may pass until pictures and sound are whole. */
const SETTLES_MS = 4_000;

/**
 * Everybody's file has an index, and every beep and flash that was while they were there, at its instant. Beeps keep the plan; a
 * flash is drawn with the page's next picture, which a busy machine delays, and so the file is held against when it was drawn.
 * @param {any} recording @param {Record<string, number[]>} drawn by user, by the wall clock @param {number} lasts milliseconds
 */
export async function keepsThePlan(recording, drawn, lasts) {
  const zero = Date.parse(recording.startedAt);
  /** @type {Map<number, number[]>} */
  const all = new Map();
  for (const [user, walls] of Object.entries(drawn)) {
    const file = join(DATA, "recordings", "recordings", recording.id, "participants", `${user}.webm`);
    await isSeekable(file);
    const away = gapsOf(recording, user, "video").filter(({ reason }) => reason === "muted" || reason === "disconnected");
    for (const [what, found] of [["flash", await flashes(file)], ["beep", await beeps(file)]]) {
      const late = new Map(what === "flash" ? walls.map((wall) => [nearest(wall), wall - nearest(wall)]) : []);
      const offs = found.map((ms) => [nearest(ms + zero), ms + zero - nearest(ms + zero) - (late.get(nearest(ms + zero)) ?? 0)]);
      console.log(`${user} ${what}: off by ${offs.map(([, off]) => Math.round(off)).join(" ")} ms`);
      for (const at of planned(zero, lasts, away)) {
        const hit = offs.find(([plan]) => plan === at);
        assert.ok(hit, `${user}: no ${what} at ${at - zero} ms; there are ${found.map(Math.round).join(" ")}`);
        all.set(at, [...(all.get(at) ?? []), hit[1]]);
      }
    }
  }
  for (const [at, offs] of all) {
    const [least, most] = [Math.min(...offs), Math.max(...offs)];
    assert.ok(least >= -OFF_MAX_MS && most <= OFF_MAX_MS, `at ${at - zero} ms files are off by ${offs}`);
    assert.ok(most - least <= OFF_MAX_MS, `at ${at - zero} ms files differ by ${offs}`);
  }
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

/** The index stands before the media (Matroska's ids of Cues and Cluster). @param {string} file */
export async function isSeekable(file) {
  const bytes = await readFile(file);
  const [cues, cluster] = ["1c53bb6b", "1f43b675"].map((id) => bytes.indexOf(Buffer.from(id, "hex")));
  assert.ok(cues > 0 && cues < cluster, `${file} has no index before its media`);
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
