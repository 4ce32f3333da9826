/**
 * A call that the server records: pages beep and flash at known instants of the wall clock, and the files do at the same.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1. CALLREEL_DATA: its folder, where the files are. CALLREEL_BIN_DIR: where its worker is.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { decoded } from "./outside.mjs";
import { drawnBy, flashed, gapsOf, keepsThePlan, screenKeepsThePlan } from "./plan.mjs";
import { Stage, api } from "./stage.mjs";

const { CALLREEL_DATA: DATA = "", CALLREEL_BIN_DIR = "" } = process.env;
const WORKER = join(CALLREEL_BIN_DIR, "worker");
const PLAYER = new URL("pcap_player.py", import.meta.url).pathname;
const run = promisify(execFile);
const RECORD_MS = 30_000;
/** When bob mutes, and when cyd's page goes, after the start; and for how long. */
const MUTE_AT_MS = 8_000;
const MUTED_MS = 5_000;
const GONE_AT_MS = 17_000;
const GONE_MS = 3_000;
/** When ann's screen is shared, no more, and again. */
const SCREEN_MS = [2_000, 12_000, 18_000];
/** How far the ends of gaps may be from what was done: a page is loaded, and connects. */
const GAP_OFF_MAX_MS = 3_000;
/** Codecs beside the usual one; AV1 takes long to encode. */
const CODECS_MS = 10_000;
/** How far a file's length may be from the recording's: a group of pictures that was not whole, and a stop that is on its way. */
const LENGTH_OFF_MAX_MS = 1_000;

test("three people who are recorded beep and flash in their files when they did, and so does a screen that comes and goes", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "beeps" });
  try {
    const ann = await stage.person("ann");
    await failsWithoutMedia(stage, ann);
    const { recording, drawn, screen, lasts, spans } = await record(stage, ann);
    await keepsThePlan(recording, drawn, lasts);
    await screenKeepsThePlan(recording, "ann", screen, lasts);
    tells(recording, "bob", ["audio", "video"], "muted", spans.muted);
    tells(recording, "cyd", ["audio", "video"], "disconnected", spans.gone);
    for (const span of spans.unshared) tells(recording, "ann", ["screen"], "disconnected", span);
  } finally {
    await stage.close();
  }
});

test("VP9, AV1 and H264, and VP8 of a Firefox, are seen by others and recorded", { timeout: 400_000 }, async () => {
  const stage = await Stage.open({ title: "codecs" });
  try {
    const codecs = { vic: "VP9", ava: "AV1", hal: "H264" };
    const people = [];
    for (const [user, codec] of Object.entries(codecs)) {
      const person = await stage.person(user);
      await person.join({ media: "beeps", codec: `video/${codec}` });
      people.push(person);
    }
    await stage.flows(people);
    const fay = await stage.person("fay", "firefox");
    await fay.join({ media: "flashes" });
    for (const person of people) await stage.sees(person, ["fay"]);
    await stage.sees(fay, ["vic"]);
    const received = await people[0].page.evaluate(() => window.call.received());
    for (const [user, codec] of [["ava", "AV1"], ["hal", "H264"], ["fay", "VP8"]]) {
      assert.ok(received[user].codecs.includes(`video/${codec}`), JSON.stringify(received));
    }

    const { recording, lasts } = await recorded(stage, people[0], (begun) => flashed(people[0], begun + CODECS_MS));
    const drawn = Object.fromEntries(await Promise.all(people.map(drawnBy)));
    await keepsThePlan(recording, drawn, lasts);
    await keepsThePlan(recording, Object.fromEntries([await drawnBy(fay)]), lasts, { only: "flash" });
    for (const [user, codec] of [...Object.entries(codecs), ["fay", "VP8"]]) {
      const length = await decoded(recording, user);
      assert.ok(Math.abs(length - lasts) < LENGTH_OFF_MAX_MS, `${user}'s file lasts ${length} ms of ${lasts}`);
      assert.equal(recording.tracks.find((track) => track.participantId === user && track.kind === "video").codec, codec.toLowerCase());
    }
    await isExported(recording, "fay");
  } finally {
    await stage.close();
  }
});

/** What was captured of somebody's VP8 is shown, and played by a program that is not ours. @param {any} recording @param {string} user */
async function isExported(recording, user) {
  const { id } = recording.tracks.find((track) => track.participantId === user && track.kind === "video");
  const [folder, pcap] = [join(DATA, "spool", recording.id, id), join(DATA, `${id}.pcap`)];
  const shown = (await run(WORKER, ["capture", "show", folder])).stdout;
  assert.match(shown, new RegExp(`of ${user}, video, Server`));
  await run(WORKER, ["capture", "export", "--pcap", pcap, folder]);
  const played = Number((await run("/usr/bin/python3", [PLAYER, pcap])).stdout);
  // A picture of this size is one packet.
  assert.equal(played, Number(/ (\d+) packets, /.exec(shown)?.[1]), shown);
}

/** A recording of somebody who sends nothing fails, and says so. @param {Stage} stage @param {import("./stage.mjs").Person} ann */
async function failsWithoutMedia(stage, ann) {
  await ann.join({ media: "none" });
  const { id } = await stage.record(ann);
  await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
  assert.deepEqual((await ann.told("recording-failed")).data, { recordingId: id });
  const { status, error } = await api(stage.host, "GET", `/video-calls/${stage.call.id}/recording/${id}`);
  assert.deepEqual([status, error.code], ["failed", "no-media"]);
  await ann.open();
}

/** @param {Stage} stage @param {import("./stage.mjs").Person} ann */
async function record(stage, ann) {
  const [bob, cyd] = [await stage.person("bob"), await stage.person("cyd")];
  for (const person of [ann, bob, cyd]) await person.join({ media: "beeps" });
  await stage.flows([ann, bob, cyd]);
  const [first, unshared, again] = SCREEN_MS;
  /** @type {Record<string, number>} */ const times = {};
  const { recording, lasts } = await recorded(stage, ann, async (begun) => {
    const at = async (/** @type {number} */ ms, /** @type {string} */ what, /** @type {() => Promise<unknown>} */ act) => {
      await flashed(ann, begun + ms);
      times[what] = Date.now() - begun;
      await act();
    };
    await at(first, "shared", () => ann.share());
    await bob.gets({ ann: "audio,screen,screen-audio,video" });
    await at(MUTE_AT_MS, "muted", () => bob.send("mute"));
    await at(unshared, "unshared", () => ann.unshare());
    await bob.gets({ ann: "audio,video" });
    await at(MUTE_AT_MS + MUTED_MS, "unmuted", () => bob.send("unmute"));
    await at(GONE_AT_MS, "gone", () => cyd.page.goto("about:blank"));
    await at(again, "sharedAgain", () => ann.share());
    await at(GONE_AT_MS + GONE_MS, "back", () => cyd.open());
    await cyd.join({ media: "beeps" });
    await Promise.all([bob, cyd].map((person) => person.gets({ ann: "audio,screen,screen-audio,video" })));
    await flashed(ann, begun + RECORD_MS);
  });
  const drawn = Object.fromEntries(await Promise.all([ann, bob, cyd].map(drawnBy)));
  const spans = { muted: [times.muted, times.unmuted], gone: [times.gone, times.back], unshared: [[0, times.shared], [times.unshared, times.sharedAgain]] };
  return { recording, drawn, screen: await ann.page.evaluate(() => window.screenFlashes), lasts, spans };
}

/**
 * Records what goes on until `during` is over.
 * @param {Stage} stage @param {import("./stage.mjs").Person} witness @param {(begun: number) => Promise<unknown>} during
 */
async function recorded(stage, witness, during) {
  const { id, begun } = await stage.record(witness);
  await during(begun);
  const lasts = Date.now() - begun;
  await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
  assert.deepEqual((await witness.told("recording-completed")).data, { recordingId: id });
  const recording = await api(stage.host, "GET", `/video-calls/${stage.call.id}/recording/${id}`);
  assert.equal(recording.status, "completed");
  console.log(JSON.stringify(recording.tracks.map(({ participantId, kind, codec, duration, gaps }) => ({ participantId, kind, codec, duration, gaps }))));
  return { recording, lasts };
}

/** All of these tell a gap of that reason, of about that span, and none of a reason that would be untrue there. */
function tells(recording, user, kinds, reason, [from, to]) {
  for (const kind of kinds) {
    const gaps = gapsOf(recording, user, kind);
    const near = gaps.filter((gap) => Math.abs(gap.from - from) < GAP_OFF_MAX_MS && Math.abs(gap.to - to) < GAP_OFF_MAX_MS);
    assert.ok(near.some((gap) => gap.reason === reason), `${user}'s ${kind} does not tell ${reason} from ${from} to ${to}: ${JSON.stringify(gaps)}`);
    assert.deepEqual(near.filter((gap) => gap.reason !== reason), [], `${user}'s ${kind}`);
  }
}
