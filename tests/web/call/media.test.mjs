/**
 * People in one room see and hear each other, whatever comes and goes; with real browsers.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Stage } from "./stage.mjs";

/** @param {string} name @param {(stage: Stage) => Promise<void>} body */
function call(name, body) {
  test(name, { timeout: 400_000 }, async () => {
    const stage = await Stage.open();
    try {
      await body(stage);
    } finally {
      await stage.close();
    }
  });
}

call("three Chromium and a Firefox: late, gone, loaded anew, with a new ICE session, and three who offer at once", async (stage) => {
  const [ann, bob, cyd] = [await stage.person("ann"), await stage.person("bob"), await stage.person("cyd")];
  for (const person of [ann, bob, cyd]) await person.join();
  await stage.flows([ann, bob, cyd]);

  const fay = await stage.person("fay", "firefox");
  await fay.join();
  await stage.flows([ann, bob, cyd, fay]);
  assert.deepEqual(await seen(ann, "participant-joined"), ["bob", "cyd", "fay"]);

  await bob.send("leave");
  for (const person of [ann, cyd, fay]) await person.told("participant-left", "bob");
  await stage.flows([ann, cyd, fay]);

  await cyd.reload();
  await stage.flows([ann, cyd, fay]);
  assert.deepEqual(await seen(ann, "participant-left"), ["bob"], "who loads the page anew keeps the place");
  assert.deepEqual(await seen(ann, "participant-joined"), ["bob", "cyd", "fay"]);

  for (const person of [ann, fay]) {
    const before = await fragment(person);
    await person.page.evaluate(() => window.call.pc.restartIce());
    await person.until((before) => window.call.fragment() !== before && window.call.pc.signalingState === "stable", before);
    await stage.flows([ann, cyd, fay]);
  }

  // Each of them makes the server offer to the other, at the moment at which they offer themselves.
  await Promise.all([ann, fay, cyd].map((person) => person.page.evaluate(() => window.call.more())));
  for (const person of [ann, cyd, fay]) {
    const others = [ann, cyd, fay].filter((other) => other !== person).map((other) => other.user);
    await person.until((users) => users.every((user) => window.call.tracksOf(user) === 3) && window.call.pc.signalingState === "stable", others);
  }
  await stage.flows([ann, cyd, fay]);
  for (const person of [ann, cyd, fay]) assert.deepEqual((await person.page.evaluate(() => window.call.told())).errors, []);
});

call("somebody who sends H264 and somebody who sends VP8 see each other", async (stage) => {
  const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
  await ann.join({ codec: "video/H264" });
  await bob.join({ codec: "video/VP8" });
  await stage.flows([ann, bob]);
  const [fromBob, fromAnn] = await Promise.all([ann, bob].map(({ page }) => page.evaluate(() => window.call.received())));
  assert.ok(fromAnn.ann.codecs.includes("video/H264"), JSON.stringify(fromAnn));
  assert.ok(fromBob.bob.codecs.includes("video/VP8"), JSON.stringify(fromBob));
});

call("a Firefox sees and hears who loads the page anew", async (stage) => {
  const [ann, fay] = [await stage.person("ann"), await stage.person("fay", "firefox")];
  for (const person of [ann, fay]) await person.join();
  await stage.flows([ann, fay]);
  await ann.reload();
  await stage.flows([ann, fay]);
});

/** Of whom somebody was told, in order. @param {import("./stage.mjs").Person} person @param {string} type */
function seen(person, type) {
  return person.page.evaluate((type) => window.call.frames.filter((frame) => frame.type === type).map((frame) => frame.userId), type);
}

/** @param {import("./stage.mjs").Person} person */
function fragment(person) {
  return person.page.evaluate(() => window.call.fragment());
}
