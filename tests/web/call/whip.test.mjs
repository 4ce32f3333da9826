/**
 * GStreamer publishes by WHIP; aiortc plays it by WHEP, and somebody in the call sees it.
 * CALLREEL_URL, CALLREEL_PYTHON: as with aiortc. GStreamer is the system's, and so is the Python that drives it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Outsider, Program } from "./outside.mjs";
import { Stage, URL_OF_EDGE, api, signIn } from "./stage.mjs";

const PUBLISHER = new URL("whip_publisher.py", import.meta.url).pathname;
/** GStreamer's bindings are for the system's Python alone. */
const SYSTEM_PYTHON = "/usr/bin/python3";

test("GStreamer publishes by WHIP and is played by WHEP and in the call", { timeout: 300_000 }, async () => {
  const stage = await Stage.open({ title: "whip" });
  /** @type {Program[]} */ const programs = [];
  try {
    const watcher = await Outsider.of(stage, "quin");
    programs.push(watcher);
    await watcher.until((told) => told.frames.includes("joined"), "it has joined");
    const url = `${URL_OF_EDGE}/video-calls/${stage.call.id}/whip`;
    const publisher = new Program(SYSTEM_PYTHON, [PUBLISHER, url, await signIn("gst")]);
    programs.push(publisher);
    const [begun, trickled] = await Promise.all([publisher.tells("POST"), publisher.tells("PATCH"), watcher.grown(["gst"])]);
    assert.deepEqual([begun.status, begun.headers["content-type"]], [201, ["application/sdp"]]);
    assert.equal(trickled.status, 204);
    const [link] = begun.headers.link ?? [];
    assert.match(link, /^<stun:127\.0\.0\.1:\d+>; rel="ice-server"$/);
    const player = await Outsider.of(stage, "pia", "gst");
    programs.push(player);
    await Promise.all([player.grown(["gst"]), watcher.grown(["gst"])]);

    await player.leave();
    const ended = publisher.tells("DELETE");
    publisher.child.stdin.end();
    assert.equal((await ended).status, 200);
    await watcher.until((told) => told.frames.includes("participant-left"), "the publisher has left");
    assert.equal(await publisher.ended, 0, publisher.lines.join("\n"));
    const { participants } = await api(stage.host, "GET", `/video-calls/${stage.call.id}/stats`);
    assert.deepEqual(participants.map((/** @type {any} */ one) => one.userId), ["quin"]);
  } finally {
    await Promise.all(programs.map((program) => program.kill()));
    await stage.close();
  }
});
