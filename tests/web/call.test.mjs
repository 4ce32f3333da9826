/**
 * Two people in one call through the page: they see and hear of each other, and a screen; the host records, pauses and goes on, both are told,
 * the recording appears in the list; a lost socket is taken up again; who leaves is gone.
 *
 * CALLREEL_URL: where the edge answers (with DEV_LOGIN=1).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { launchForPage } from "./support/browsers.mjs";

/** Any one step of the page; generous: a loaded machine with two cores encodes two cameras slowly. */
const STEP_WITHIN_MS = 45_000;
/** A minute is what the product promises from stop to a playable file. */
const COMPLETED_WITHIN_MS = 60_000;
/** Frames that say a picture moves, and is not one keyframe. */
const FRAMES = 10;

const byId = (/** @type {string} */ id) => `[data-testid="${id}"]`;
const tileOf = (/** @type {string} */ user) => `${byId("tile")}[data-user-id="${user}"]`;

test("two people see each other, and what the host records", { timeout: 300_000 }, async () => {
  const url = process.env.CALLREEL_URL;
  assert.ok(url, "CALLREEL_URL is missing: set it to a running edge, http://127.0.0.1:8080 say");
  const driver = await launchForPage("chromium");
  try {
    const host = await signedIn(driver, url, "host");
    await host.locator(byId("create-call")).click();
    await join(host);
    const guest = await signedIn(driver, url, "guest");
    await guest.goto(host.url()); // the link is all that a guest needs
    await join(guest);
    await Promise.all([sees(host, "guest"), sees(guest, "host")]);
    await mutes(guest, host);
    await comesBack(guest, host);
    await shares(guest, host);
    await records(host, guest);
    await guest.locator(byId("leave")).click();
    await guest.waitForSelector(byId("join"));
    await host.waitForFunction((tile) => document.querySelector(tile) === null, {}, tileOf("guest"));
  } finally {
    await driver.close();
  }
});

/**
 * @param {import("puppeteer-core").Browser} driver
 * @param {string} url
 * @param {string} user
 */
async function signedIn(driver, url, user) {
  const context = await driver.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_WITHIN_MS);
  await page.evaluateOnNewDocument(keepSockets);
  await page.goto(url, { waitUntil: "load" });
  await page.locator(byId("user-id")).fill(user);
  await page.locator(byId("sign-in")).click();
  await page.waitForSelector(byId("create-call"));
  return page;
}

/** So that a test can cut the page's socket, as a network does. */
function keepSockets() {
  const kept = /** @type {any} */ (globalThis);
  kept.sockets = [];
  kept.WebSocket = class extends WebSocket {
    constructor(/** @type {string} */ url, /** @type {string[]} */ protocols) {
      super(url, protocols);
      kept.sockets.push(this);
    }
  };
}

/** @param {import("puppeteer-core").Page} page */
async function join(page) {
  await page.locator(`${byId("join")}:not([disabled])`).click();
  await page.waitForSelector(`${byId("call-state")}[data-state="joined"]`);
}

/**
 * Their picture moves, and their voice comes.
 * @param {import("puppeteer-core").Page} page
 * @param {string} user
 */
function sees(page, user) {
  return page.waitForFunction(
    (tile, frames) => {
      const video = /** @type {HTMLVideoElement | null} */ (document.querySelector(`${tile} video`));
      const heard = document.querySelector(tile)?.getAttribute("data-muted") === "no";
      return heard && video !== null && video.videoWidth > 0 && video.getVideoPlaybackQuality().totalVideoFrames >= frames;
    },
    {},
    tileOf(user),
    FRAMES,
  );
}

/**
 * @param {import("puppeteer-core").Page} guest
 * @param {import("puppeteer-core").Page} host
 */
async function mutes(guest, host) {
  await guest.locator(byId("toggle-microphone")).click();
  await host.waitForSelector(`${tileOf("guest")}[data-muted="yes"]`);
  await guest.locator(byId("toggle-microphone")).click();
  await host.waitForSelector(`${tileOf("guest")}[data-muted="no"]`);
  await guest.locator(byId("toggle-camera")).click();
  await host.waitForFunction((tile) => document.querySelector(`${tile} video`)?.hasAttribute("hidden"), {}, tileOf("guest"));
  await guest.locator(byId("toggle-camera")).click();
  await sees(host, "guest");
}

/**
 * The socket breaks: the call goes on, for the others without a word.
 * @param {import("puppeteer-core").Page} guest
 * @param {import("puppeteer-core").Page} host
 */
async function comesBack(guest, host) {
  await host.$eval(tileOf("guest"), (element) => element.setAttribute("data-same", "yes"));
  await guest.evaluate(() => /** @type {any} */ (globalThis).sockets.at(-1).close());
  await guest.waitForFunction(() => /** @type {any} */ (globalThis).sockets.length === 2);
  await guest.waitForSelector(`${byId("call-state")}[data-state="joined"]`);
  await sees(guest, "host");
  assert.ok(await host.$(`${tileOf("guest")}[data-same="yes"]`), "the guest has never been gone");
}

/**
 * A screen is shown beside its owner, is gone when it is shared no more, and comes again.
 * @param {import("puppeteer-core").Page} guest
 * @param {import("puppeteer-core").Page} host
 */
async function shares(guest, host) {
  const screen = `${tileOf("guest")}[data-kind="screen"]`;
  for (let time = 0; time < 2; time += 1) {
    await guest.locator(byId("toggle-screen")).click();
    await moves(host, screen);
    await moves(host, `${tileOf("guest")}[data-kind="person"]`);
    await guest.locator(`${byId("toggle-screen")}[data-state="on"]`).click();
    await host.waitForFunction((tile) => document.querySelector(tile) === null, {}, screen);
  }
  await sees(host, "guest");
}

/**
 * The picture of a tile moves.
 * @param {import("puppeteer-core").Page} page
 * @param {string} tile
 */
function moves(page, tile) {
  const shown = (/** @type {string} */ tile, /** @type {number} */ frames) => {
    const video = /** @type {HTMLVideoElement | null} */ (document.querySelector(`${tile} video`));
    return video !== null && video.videoWidth > 0 && video.getVideoPlaybackQuality().totalVideoFrames >= frames;
  };
  return page.waitForFunction(shown, {}, tile, FRAMES);
}

/**
 * @param {import("puppeteer-core").Page} host
 * @param {import("puppeteer-core").Page} guest
 */
async function records(host, guest) {
  const banner = byId("recording-banner");
  assert.equal(await guest.$eval(byId("record-call"), (element) => element.hasAttribute("hidden")), true, "a guest does not record");
  await host.locator(byId("record-call")).click();
  await Promise.all([host, guest].map((page) => page.waitForSelector(banner, { visible: true })));
  const row = await host.waitForSelector(`${byId("recording-row")}[data-status="recording"]`);
  const id = await row?.evaluate((element) => element.getAttribute("data-recording-id"));
  await moreFrames(guest, "host"); // something to record
  await host.locator(byId("pause-recording")).click();
  await Promise.all([host, guest].map((page) => page.waitForSelector(`${banner}.paused`, { visible: true })));
  assert.equal(await guest.$eval(banner, (element) => element.textContent), "The recording is paused.");
  await host.locator(`${byId("pause-recording")}[data-state="on"]:not([disabled])`).click();
  await Promise.all([host, guest].map((page) => page.waitForSelector(`${banner}:not(.paused)`, { visible: true })));
  await moreFrames(guest, "host");
  await host.locator(`${byId("record-call")}[data-state="on"]:not([disabled])`).click();
  await Promise.all([host, guest].map((page) => page.waitForSelector(banner, { hidden: true })));
  const done = `${byId("recording-row")}[data-recording-id="${id}"]:is([data-status="completed"], [data-status="failed"])`;
  const ended = await host.waitForSelector(done, { timeout: COMPLETED_WITHIN_MS });
  assert.equal(await ended?.evaluate((element) => element.getAttribute("data-status")), "completed");
}

/**
 * @param {import("puppeteer-core").Page} page
 * @param {string} user
 */
async function moreFrames(page, user) {
  const video = `${tileOf(user)} video`;
  const before = await page.$eval(video, (element) => /** @type {HTMLVideoElement} */ (element).getVideoPlaybackQuality().totalVideoFrames);
  const more = (/** @type {string} */ selector, /** @type {number} */ least) => {
    const element = /** @type {HTMLVideoElement | null} */ (document.querySelector(selector));
    return (element?.getVideoPlaybackQuality().totalVideoFrames ?? 0) >= least;
  };
  await page.waitForFunction(more, {}, video, before + 10 * FRAMES);
}
