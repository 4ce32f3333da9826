/** Starts the Vercel Blob server of the tests, points the official client at it, and speaks to its control paths. */
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { Agent, setGlobalDispatcher } from "undici";

const FOLDER = process.env.CALLREEL_BIN_DIR ?? new URL("../../target/debug", import.meta.url).pathname;

/**
 * A store of its own for each test file.
 * @param {"public" | "private"} access
 */
export async function startStore(access) {
  const child = spawn(`${FOLDER}/vercel_blob_server`, ["--access", access], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const { value } = await lines[Symbol.asyncIterator]().next();
  const ready = JSON.parse(value);
  process.env.VERCEL_BLOB_API_URL = ready.apiUrl;
  process.env.BLOB_READ_WRITE_TOKEN = ready.token;
  // The client waits a second before its second attempt, two before its third.
  process.env.VERCEL_BLOB_RETRIES = "2";
  resolveDownloads(new URL(ready.downloadUrl));
  return {
    ...ready,
    storeId: ready.token.split("_")[3],
    setFaults: (plan) => control(ready, "PUT", "faults", plan),
    faults: async () => (await fetch(`${ready.downloadUrl}/-/faults`)).json(),
    advance: (advanceMs) => control(ready, "POST", "clock", { advanceMs }),
    suspend: (suspended) => control(ready, "PUT", "store", { suspended }),
    stop: () => child.stdin.end(),
  };
}

async function control({ downloadUrl }, method, path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${downloadUrl}/-/${path}`, { method, headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
}

/**
 * The client downloads from https://STORE.ACCESS.blob.vercel-storage.com, whatever VERCEL_BLOB_API_URL says: connections to that
 * name go to the server, without TLS. The rest of the request, its Host too, stays as the client made it.
 */
function resolveDownloads({ hostname, port }) {
  setGlobalDispatcher(new Agent({
    connect({ host, ...options }, done) {
      const download = options.hostname.endsWith(".blob.vercel-storage.com");
      const socket = download ? connect(Number(port), hostname) : connect(Number(options.port), options.hostname);
      socket.once("connect", () => done(null, socket)).once("error", (error) => done(error, null));
    },
  }));
}
