/**
 * A client whose network lets nothing through but the way to a TURN server: it joins by that server, and is recorded as others are.
 * Run by relay.sh.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { drawnBy, keepsThePlan } from "../plan.mjs";
import { Stage, api, completed } from "../stage.mjs";
import { startCoturn, wayOf } from "./coturn.mjs";

const RECORD_MS = 10_000;

/** The passing of time is what is recorded: nothing else could be waited for. */
const passes = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("a client that reaches the edge through a TURN server alone joins and is recorded", { timeout: 300_000 }, async () => {
  const coturn = await startCoturn();
  const stage = await Stage.open({ title: "relayed" });
  try {
    const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
    const { iceServers } = await api(ann.token, "GET", "/video-calls/ice-servers");
    await ann.join({ media: "beeps", ice: { iceServers, iceTransportPolicy: "relay" } });
    await bob.join({ media: "beeps" });
    await stage.flows([ann, bob]);
    assert.equal((await wayOf(ann)).local, "relay");
    assert.deepEqual([(await wayOf(bob)).local, (await wayOf(bob)).remote], ["host", "host"], "who needs no relay takes none");
    const started = await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/start`, {});
    await passes(Date.parse(started.startedAt) + RECORD_MS - Date.now());
    const drawn = Object.fromEntries(await Promise.all([ann, bob].map(drawnBy)));
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    await keepsThePlan(await completed(stage.host, stage.call.id, started.id), drawn, RECORD_MS);
  } finally {
    await stage.close();
    await coturn.end();
  }
});
