/**
 * A browser that sends as much as it is told it may loses nothing to the edge's limit.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Stage, URL_OF_EDGE } from "./stage.mjs";

/** Pictures that are sent before the edge is asked: at what a user may send with two of them, half a minute. */
const SENT_BYTES = 10_000_000;

test("three layers and a screen of noise, each at its limit", { timeout: 300_000 }, async () => {
  const stage = await Stage.open();
  try {
    const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
    const before = await overLimit();
    await ann.join({ media: "noise" });
    await bob.join();
    await bob.until(() => window.call.mediaOf("ann").length === 3);
    await ann.until((bytes) => window.call.sentBytes().then((sent) => sent > bytes), SENT_BYTES);
    assert.equal(await overLimit(), before);
  } finally {
    await stage.close();
  }
});

/** Datagrams that the edge has thrown away because they were too much. */
async function overLimit() {
  const text = await (await fetch(`${URL_OF_EDGE}/metrics`)).text();
  const [, count] = /^callreel_media_datagrams_over_limit_total (\d+)/m.exec(text) ?? [];
  assert.ok(count !== undefined, "it is counted");
  return Number(count);
}
