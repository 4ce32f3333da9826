/**
 * An edge that no UDP and no TCP of media reaches: it is called through its own address at a TURN server, and through a new one when
 * that server has been restarted. Run by relay.sh, which has closed the edge's network.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Stage } from "../stage.mjs";
import { metric, startCoturn, until, wayOf } from "./coturn.mjs";

/** Media threads of the edge: each has an address of its own at the server. */
const THREADS = Number(process.env.CALLREEL_THREADS);
const HELD = "callreel_media_relays";
const ENDED = "callreel_media_relays_ended_total";
const RELAYED = "callreel_media_relayed_datagrams_total";

test("an edge without inbound UDP is called through a TURN server, and again after that was restarted", { timeout: 300_000 }, async () => {
  let coturn = await startCoturn();
  const stage = await Stage.open({ title: "closed" });
  try {
    await until((held) => held === THREADS, HELD);
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
    coturn = await startCoturn();
    await until((ended) => ended >= forgotten + THREADS, ENDED, "forgotten");
    await until((held) => held === THREADS, HELD);
    for (const person of people) await person.reload();
    await stage.flows(people);
    for (const person of people) assert.equal((await wayOf(person)).remote, "relay", person.user);
  } finally {
    await stage.close();
    await coturn.end();
  }
});
