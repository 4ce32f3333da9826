/**
 * Clients whose network is not the usual one: it lets no UDP through, or no IPv4, or changes in the middle of a call. No TURN server
 * is there. Run by relay.sh.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { afterEach } from "node:test";
import { inCall } from "../stage.mjs";
import { wayOf } from "./coturn.mjs";

/** Any one test. */
const WITHIN_MS = 300_000;
const { CALLREEL_NET = "", CALLREEL_IP6, CALLREEL_OUTSIDE_MOVED } = process.env;

/** What comes through to the edge from now on, and how. @param {"tcp" | "ipv6" | "moved" | "back"} state */
const network = (state) => execFileSync(CALLREEL_NET, [state]);
// Lets everything through again as well.
afterEach(() => network("back"));

inCall("a Chromium and a Firefox whose network lets no UDP through talk over TCP", WITHIN_MS, async (stage) => {
  network("tcp");
  const people = [await stage.person("ann"), await stage.person("fay", "firefox")];
  for (const person of people) await person.join();
  await stage.flows(people);
  for (const person of people) {
    const { protocol, remote } = await wayOf(person);
    assert.deepEqual([protocol, remote], ["tcp", "host"], person.user);
  }
});

inCall("a Chromium and a Firefox talk over IPv6 alone", WITHIN_MS, async (stage) => {
  network("ipv6");
  const people = [await stage.person("ann"), await stage.person("fay", "firefox")];
  for (const person of people) await person.join();
  await stage.flows(people);
  for (const person of people) {
    const { protocol, remote, address } = await wayOf(person);
    assert.deepEqual([protocol, remote, address], ["udp", "host", CALLREEL_IP6], person.user);
  }
});

inCall("people whose network changes keep their places and go on", WITHIN_MS, async (stage) => {
  const people = [await stage.person("ann"), await stage.person("bob")];
  for (const person of people) await person.join();
  await stage.flows(people);
  for (const person of people) assert.notEqual((await wayOf(person)).own, CALLREEL_OUTSIDE_MOVED, person.user);
  network("moved");
  await Promise.all(people.map((person) => person.page.evaluate(() => window.call.resume())));
  await stage.flows(people);
  for (const person of people) {
    assert.equal((await wayOf(person)).own, CALLREEL_OUTSIDE_MOVED, person.user);
    const told = await person.page.evaluate(() => window.call.frames.map(({ type }) => type));
    assert.deepEqual(told.filter((type) => type === "participant-left"), [], person.user);
    assert.deepEqual(await person.page.evaluate(() => window.call.errors), [], person.user);
  }
});
