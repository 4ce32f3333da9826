/**
 * Calls through a TURN server: a client whose network lets nothing through but the way to it joins and is recorded as others are; an
 * edge that no UDP and no TCP of media reaches is called through its own address there, and through a new one when the server has been
 * restarted. Run by relay.sh.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Program } from "../outside.mjs";
import { drawnBy, flashed, keepsThePlan } from "../plan.mjs";
import { Stage, api, completed } from "../stage.mjs";
import { metric, startCoturn, wayOf } from "./coturn.mjs";

const RECORD_MS = 10_000;
/** Media threads of the edge: each has an address of its own at the server. */
const THREADS = Number(process.env.CALLREEL_THREADS);
const HELD = "callreel_media_relays";
const ENDED = "callreel_media_relays_ended_total";
const RELAYED = "callreel_media_relayed_datagrams_total";

/** The edge's log, from its beginning. */
const log = new Program("tail", ["-n", "+1", "-F", join(process.env.CALLREEL_DATA ?? "", "logs", "edge.log")]);

/** Resolves as soon as the edge will have been given so many addresses at the server, beginning now. */
function given() {
  let left = THREADS;
  return log.line((line) => line.includes("is reached through the TURN server at") && --left === 0, `${THREADS} addresses`);
}

/** One for all, so that the edge's addresses there outlive the first test. @type {Awaited<ReturnType<typeof startCoturn>>} */
let coturn;
before(async () => {
  const all = given();
  coturn = await startCoturn();
  await all;
});
after(() => Promise.all([coturn?.end(), log.kill()]));

test("a client that reaches the edge through a TURN server alone joins and is recorded", { timeout: 300_000 }, async () => {
  const stage = await Stage.open({ title: "relayed" });
  try {
    const [ann, bob] = [await stage.person("ann"), await stage.person("bob")];
    const { iceServers } = await api(ann.token, "GET", "/video-calls/ice-servers");
    await ann.join({ media: "beeps", ice: { iceServers, iceTransportPolicy: "relay" } });
    await bob.join({ media: "beeps" });
    await stage.flows([ann, bob]);
    assert.equal(await metric(HELD), THREADS);
    assert.equal((await wayOf(ann)).local, "relay");
    assert.deepEqual([(await wayOf(bob)).local, (await wayOf(bob)).remote], ["host", "host"], "who needs no relay takes none");
    const { id, begun } = await stage.record(ann);
    await flashed(ann, begun + RECORD_MS);
    const lasts = Date.now() - begun;
    const drawn = Object.fromEntries(await Promise.all([ann, bob].map(drawnBy)));
    await api(stage.host, "POST", `/video-calls/${stage.call.id}/recording/stop`);
    await keepsThePlan(await completed(stage.host, stage.call.id, id), drawn, lasts);
  } finally {
    await stage.close();
  }
});

test("an edge without inbound UDP is called through a TURN server, and again after that was restarted", { timeout: 300_000 }, async () => {
  execFileSync(process.env.CALLREEL_NET ?? "", ["closed"]);
  const stage = await Stage.open({ title: "closed" });
  try {
    const people = [await stage.person("ann"), await stage.person("bob", "firefox")];
    for (const person of people) await person.join();
    await stage.flows(people);
    for (const person of people) {
      const { local, remote, address } = await wayOf(person);
      assert.deepEqual([local, remote, address], ["host", "relay", process.env.CALLREEL_TURN_IP], person.user);
    }
    assert.ok((await metric(RELAYED, '"in"')) > 100 && (await metric(RELAYED, '"out"')) > 100);
    const forgotten = await metric(ENDED, "forgotten");
    await coturn.end();
    const again = given();
    coturn = await startCoturn();
    await again;
    for (const person of people) await person.reload();
    await stage.flows(people);
    assert.ok((await metric(ENDED, "forgotten")) >= forgotten + THREADS);
    assert.equal(await metric(HELD), THREADS);
    for (const person of people) assert.equal((await wayOf(person)).remote, "relay", person.user);
  } finally {
    await stage.close();
  }
});
