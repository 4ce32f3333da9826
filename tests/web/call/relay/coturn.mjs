/** The TURN server that relay.sh has set up, started and ended by the tests. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { URL_OF_EDGE } from "../stage.mjs";

/** What it says last before it answers. */
const READY = "DB connection success";

/** A server that answers; `end` ends it. */
export async function startCoturn() {
  const child = spawn(process.env.CALLREEL_COTURN ?? "", { stdio: ["ignore", "pipe", "ignore"] });
  const gone = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise((resolve) => lines.on("line", (line) => line.includes(READY) && resolve(undefined)));
  await Promise.race([ready, gone.then(([code]) => Promise.reject(new Error(`coturn ended with ${code}`)))]);
  return {
    end: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** A metric of the edge: the sum over its labels, those that contain `label`. @param {string} name @param {string} [label] */
export async function metric(name, label = "") {
  const text = await (await fetch(`${URL_OF_EDGE}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name) && /^[{ ]/.test(line.slice(name.length)) && line.includes(label));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** Types of both ends of the way that a person's media take. @param {import("../stage.mjs").Person} person @returns {Promise<{ local: string, own: string, remote: string, address: string, protocol: string }>} */
export function wayOf(person) {
  return person.page.evaluate(async () => {
    const stats = [...(await window.call.pc.getStats()).values()];
    const by = (/** @type {string} */ id) => stats.find((one) => one.id === id);
    // Chromium tells the selected pair by the transport, Firefox by the pair.
    const pair = by(stats.find((one) => one.type === "transport")?.selectedCandidatePairId) ?? stats.find((one) => one.type === "candidate-pair" && one.selected);
    const [local, remote] = [by(pair.localCandidateId), by(pair.remoteCandidateId)];
    return { local: local.candidateType, own: local.address, remote: remote.candidateType, address: remote.address, protocol: local.protocol };
  });
}
