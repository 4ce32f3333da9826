/**
 * People in one room see and hear each other, whatever comes and goes; with real browsers.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1.
 */
import assert from "node:assert/strict";
import { inCall } from "./stage.mjs";

/** What Chromium takes a line to carry before anybody has told it how packets arrive. */
const UNTOLD_BPS = 300_000;
/** Any one test. */
const WITHIN_MS = 400_000;

inCall("three Chromium and a Firefox: late, gone, loaded anew, with a new ICE session, and three who offer at once", WITHIN_MS, async (stage) => {
  const [ann, bob, cyd] = [await stage.person("ann"), await stage.person("bob"), await stage.person("cyd")];
  for (const person of [ann, bob, cyd]) await person.join();
  await stage.flows([ann, bob, cyd]);

  // How far it gets is the machine's affair; that it is told is ours.
  await ann.until(async (untold) => ![0, untold].includes((await window.call.line()).carries), UNTOLD_BPS);
  assert.match(await ann.page.evaluate(() => window.call.pc.remoteDescription?.sdp ?? ""), /a=rtcp-fb:\d+ transport-cc/);
  assert.equal((await ann.page.evaluate(() => window.call.line())).cipher, "SRTP_AEAD_AES_128_GCM");

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

  // Offers of fay and cyd leave when the server's come, which ann's screen makes it send: each meets the other on its way.
  for (const person of [fay, cyd]) {
    await person.page.evaluate(() => (window.call.crossing = true));
    await person.share("video");
    await person.until(() => window.call.pc.signalingState === "have-local-offer");
  }
  await ann.share("video");
  for (const person of [ann, cyd, fay]) {
    const others = [ann, cyd, fay].filter((other) => other !== person);
    await person.gets(Object.fromEntries(others.map(({ user }) => [user, "audio,screen,video"])));
    await person.until(() => window.call.pc.signalingState === "stable");
  }
  for (const person of [fay, cyd]) assert.ok(await person.page.evaluate(() => window.call.glares > 0), `${person.user} met no offer`);
  await stage.flows([ann, cyd, fay]);
  for (const person of [ann, cyd, fay]) assert.deepEqual((await person.page.evaluate(() => window.call.told())).errors, []);
});

inCall("a Chromium and a Firefox that send three sizes are seen in the one that was asked for", WITHIN_MS, async (stage) => {
  const [ann, fay] = [await stage.person("ann"), await stage.person("fay", "firefox")];
  for (const person of [ann, fay]) await person.join({ media: "layers" });
  await stage.flows([ann, fay]);
  for (const [layer, width] of [["q", 240], ["f", 960], ["h", 480]]) {
    for (const [person, other] of [[ann, fay], [fay, ann]]) await person.send("subscribe", { userId: other.user, kind: "video", layer });
    for (const [person, other] of [[ann, fay], [fay, ann]]) {
      const is = async (/** @type {string} */ user, /** @type {number} */ width) => (await window.call.received())[user].width === width;
      await person.until(is, other.user, width);
    }
  }
});

inCall("a Firefox sees and hears who loads the page anew", WITHIN_MS, async (stage) => {
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
