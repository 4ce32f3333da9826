/**
 * Sound that is lost on the way is sent again, in both directions; with a real browser on a bad line.
 * CALLREEL_URL: a running edge with DEV_LOGIN=1.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { lossyWay } from "./lossy.mjs";
import { Stage } from "./stage.mjs";

/** Packets of sound that are waited for: at 50 a second, half a minute. */
const PACKETS = 1_500;

for (const browser of /** @type {const} */ (["chromium", "firefox"])) {
  test(`${browser} on a line that loses every tenth packet`, { timeout: 200_000 }, async () => {
    const stage = await Stage.open();
    /** @type {import("./lossy.mjs").Way | undefined} */ let way;
    try {
      const [ann, bob] = [await stage.person("ann", browser), await stage.person("bob")];
      await bob.join();
      await bob.until(() => window.call.edge() !== undefined);
      way = await lossyWay(await bob.page.evaluate(() => window.call.edge()), 10);
      await ann.join({ through: way.met, asksForSound: true });
      await stage.flows([ann, bob]);
      await bob.until((packets) => window.call.sound().then(({ received }) => received > packets), PACKETS);
      await ann.until((packets) => window.call.sound().then(({ received }) => received > packets), PACKETS);
      const [sender, hearer] = [await ann.page.evaluate(() => window.call.sound()), await bob.page.evaluate(() => window.call.sound())];
      const told = JSON.stringify({ lost: way.lost, sender, hearer });
      assert.ok(sender.repeated > PACKETS / 20, `it sends sound again when asked: ${told}`);
      assert.ok(hearer.lost < PACKETS / 50, `the others miss nothing: ${told}`);
      // Firefox does what it is asked, and asks for pictures alone.
      if (browser === "chromium") assert.ok(sender.asked > 0 && sender.lost < PACKETS / 50, `it asks for sound, and gets it: ${told}`);
      assert.deepEqual((await ann.page.evaluate(() => window.call.told())).errors, []);
    } finally {
      await stage.close();
      way?.close();
    }
  });
}
