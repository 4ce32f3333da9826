/** Starts the installed browsers with fake camera and microphone, each with a fresh profile. */
import puppeteer from "puppeteer-core";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

export const CHROMIUM_FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
  "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];

/** For the recorder's tests: Playwright can cut the network off and keep a profile over restarts. */
export function launchChromium() {
  return chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
}

/**
 * For the page's test: one driver for both; Firefox as shipped speaks WebDriver BiDi, and no patched build is needed.
 * @param {"chromium" | "firefox"} name
 */
export function launchForPage(name) {
  if (name === "chromium") {
    return puppeteer.launch({ browser: "chrome", executablePath: CHROMIUM, headless: true, args: CHROMIUM_FLAGS });
  }
  return puppeteer.launch({
    browser: "firefox",
    executablePath: FIREFOX,
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      // Sound that a page makes itself, without a click before it.
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      "datareporting.policy.dataSubmissionEnabled": false,
      "app.update.enabled": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
    },
  });
}
