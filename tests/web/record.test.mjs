/**
 * The page against a running edge and worker: sign in, record 10 s, stop, wait for `completed`, in both browsers. Prints
 * one JSON line per browser, `{callId, recordingId, recordedMs, browser}`, for whoever looks into the file with ffprobe.
 *
 * CALLREEL_URL: where the edge answers (with DEV_LOGIN=1). CALLREEL_BROWSERS: "chromium,firefox". CALLREEL_RECORD_MS: 10000.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { launchForPage } from "./support/browsers.mjs";

const RECORD_MS = Number(process.env.CALLREEL_RECORD_MS ?? 10_000);
/** A minute is what the product promises from stop to a playable file. */
const COMPLETED_WITHIN_MS = 60_000;
/** Any one step of the page; generous: a loaded machine with two cores encodes 720p slowly. */
const STEP_WITHIN_MS = 45_000;

const byId = (/** @type {string} */ id) => `[data-testid="${id}"]`;

for (const browser of /** @type {("chromium" | "firefox")[]} */ ((process.env.CALLREEL_BROWSERS ?? "chromium,firefox").split(","))) {
  test(`${browser} records ${RECORD_MS} ms through the page and sees it completed`, { timeout: 240_000 }, async () => {
    const url = process.env.CALLREEL_URL;
    assert.ok(url, "CALLREEL_URL is missing: set it to a running edge, http://127.0.0.1:8080 say");
    const driver = await launchForPage(browser);
    try {
      const page = await driver.newPage();
      page.setDefaultTimeout(STEP_WITHIN_MS);
      const result = await recordThroughPage(page, url, browser);
      console.log(JSON.stringify({ ...result, browser }));
      assert.ok(result.recordedMs >= RECORD_MS, `only ${result.recordedMs} ms were recorded`);
    } finally {
      await driver.close();
    }
  });
}

/**
 * @param {import("puppeteer-core").Page} page
 * @param {string} url
 * @param {string} browser
 */
async function recordThroughPage(page, url, browser) {
  await page.goto(url, { waitUntil: "load" });
  await page.locator(byId("user-id")).fill(`${browser}-${process.pid}`);
  await page.locator(byId("sign-in")).click();
  await page.locator(byId("create-call")).click();
  await page.locator(`${byId("record")}:not([disabled])`).click();
  await page.waitForFunction(
    (wanted) => {
      const status = /** @type {HTMLElement | null} */ (document.querySelector('[data-testid="status"]'));
      return status?.dataset.state === "recording" && Number(status.dataset.recordedMs) >= wanted;
    },
    { timeout: RECORD_MS + STEP_WITHIN_MS },
    RECORD_MS,
  );
  await page.locator(byId("stop")).click();
  await page.waitForSelector(`${byId("status")}[data-state="finished"]`, { timeout: STEP_WITHIN_MS });
  const told = await page.$eval(byId("status"), (element) => ({ .../** @type {HTMLElement} */ (element).dataset }));
  const { callId = "", recordingId = "" } = told;
  const row = `${byId("recording-row")}[data-recording-id="${recordingId}"]`;
  await page.waitForSelector(`${row}[data-status="completed"], ${row}[data-status="failed"]`, { timeout: COMPLETED_WITHIN_MS });
  assert.equal(await page.$eval(row, (element) => element.getAttribute("data-status")), "completed");
  await seesThePlayer(page, row);
  return { callId, recordingId, recordedMs: Number(told.recordedMs) };
}

test("a call that does not exist is all that the page says", { timeout: 120_000 }, async () => {
  const driver = await launchForPage("chromium");
  try {
    const page = await driver.newPage();
    page.setDefaultTimeout(STEP_WITHIN_MS);
    await page.goto(`${process.env.CALLREEL_URL}/#/calls/nowhere`, { waitUntil: "load" });
    await page.locator(byId("user-id")).fill("stranger");
    await page.locator(byId("sign-in")).click();
    await page.waitForSelector(byId("no-call"));
    assert.equal(await page.$(byId("record")), null);
    assert.equal(await page.$(byId("recordings")), null);
  } finally {
    await driver.close();
  }
});

/**
 * Five thumbnails that load, and a player that knows how long the file is and can seek into it.
 * @param {import("puppeteer-core").Page} page
 * @param {string} row
 */
async function seesThePlayer(page, row) {
  await page.locator(`${row} a`).click();
  await page.waitForSelector(byId("player"));
  await page.waitForFunction(() => {
    const pictures = /** @type {HTMLImageElement[]} */ ([...document.querySelectorAll('[data-testid="thumbnail"]')]);
    return pictures.length === 5 && pictures.every((picture) => picture.complete && picture.naturalWidth === 320 && picture.alt !== "");
  });
  await page.waitForFunction(() => {
    const player = /** @type {HTMLVideoElement} */ (document.querySelector('[data-testid="player"]'));
    return Number.isFinite(player.duration) && player.duration > 0 && player.seekable.length > 0;
  });
  await page.evaluate(async () => {
    const player = /** @type {HTMLVideoElement} */ (document.querySelector('[data-testid="player"]'));
    const seeked = new Promise((resolve) => player.addEventListener("seeked", resolve, { once: true }));
    player.currentTime = player.duration / 2;
    await seeked;
  });
}
