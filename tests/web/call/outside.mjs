/** Clients of a call that are programs of their own: what they say, how they end, and what their files hold. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { fileOf } from "./plan.mjs";
import { STEP_WITHIN_MS, URL_OF_EDGE, signIn } from "./stage.mjs";

const PARTICIPANT = new URL("participant.py", import.meta.url).pathname;
/** Lines kept of what a program said, for the report of a test that failed. */
const LINES_KEPT = 60;
const run = promisify(execFile);

/** A running program, and the lines that it says. */
export class Program {
  /** @type {string[]} */ lines = [];
  /** @type {((line: string) => void)[]} */ #waiting = [];

  /** @param {string} program @param {string[]} args */
  constructor(program, args) {
    this.name = program;
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.ended = new Promise((resolve) => this.child.once("close", (code, signal) => resolve(code ?? signal)));
    for (const from of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: from }).on("line", (line) => {
        if (this.lines.push(line) > LINES_KEPT) this.lines.shift();
        for (const look of [...this.#waiting]) look(line);
      });
    }
  }

  /** The first line from now on that passes. @param {(line: string) => boolean} test @param {string} what */
  line(test, what) {
    return new Promise((resolve, reject) => {
      const fail = (/** @type {string} */ why) => reject(new Error(`${this.name} ${why} before ${what}:\n${this.lines.join("\n")}`));
      const timer = setTimeout(() => fail("goes on"), STEP_WITHIN_MS);
      const done = () => {
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((other) => other !== look);
      };
      const look = (/** @type {string} */ line) => {
        if (!test(line)) return;
        done();
        resolve(line);
      };
      this.#waiting.push(look);
      void this.ended.then((code) => (done(), fail(`ended (${code})`)));
    });
  }

  /** The next line of JSON that tells a request of this method. @param {string} method */
  async tells(method) {
    const is = (/** @type {string} */ line) => line.startsWith("{") && JSON.parse(line).method === method;
    return JSON.parse(await this.line(is, `its ${method}`));
  }

  kill() {
    this.child.kill("SIGKILL");
    return this.ended;
  }
}

/** Somebody with aiortc. */
export class Outsider extends Program {
  /** @param {string} call @param {string} user @param {string} token @param {string} [whom] whom to play by WHEP instead of joining */
  constructor(call, user, token, whom) {
    const python = process.env.CALLREEL_PYTHON ?? "python3";
    super(python, [PARTICIPANT, URL_OF_EDGE, call, user, token, ...(whom === undefined ? [] : [whom])]);
    this.user = user;
  }

  /** @param {import("./stage.mjs").Stage} stage @param {string} user @param {string} [whom] */
  static async of(stage, user, whom) {
    return new Outsider(stage.call.id, user, await signIn(user), whom);
  }

  /** How it stands, as soon as it is so. It tells whenever that changes. @param {(told: any) => boolean} test @param {string} what */
  async until(test, what) {
    const is = (/** @type {string} */ line) => line.startsWith("{") && test(JSON.parse(line));
    return JSON.parse(this.lines.findLast(is) ?? (await this.line(is, what)));
  }

  /** Waits until so much sound more, and fifteen pictures for each second, have come from each. @param {string[]} users @param {number} [seconds] */
  async grown(users, seconds = 1) {
    const before = (await this.until(() => true, "anything")).received;
    const more = (/** @type {any} */ told) => users.every((user) => {
      const [is, was] = [told.received[user], before[user] ?? { audio: 0, video: 0 }];
      return is !== undefined && is.audio - was.audio >= 48_000 * seconds && is.video - was.video >= 15 * seconds;
    });
    const told = await this.until(more, `more has come from ${users}`);
    assert.deepEqual(told.errors, []);
  }

  async leave() {
    this.child.stdin.end();
    assert.equal(await this.ended, 0, this.lines.join("\n"));
  }
}

/** Somebody's file decodes without complaint from its beginning to its end; its length in milliseconds. @param {any} recording @param {string} user */
export async function decoded(recording, user) {
  const file = await fileOf(recording, user);
  const { stderr } = await run("ffmpeg", ["-v", "error", "-xerror", "-i", file, "-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"]);
  assert.equal(stderr, "", file);
  const { stdout } = await run("ffprobe", ["-v", "error", "-show_entries", "format=duration:stream=codec_type", "-of", "json", file]);
  const { format, streams } = JSON.parse(stdout);
  assert.deepEqual(streams.map((/** @type {any} */ stream) => stream.codec_type).sort(), ["audio", "video"], file);
  return Number(format.duration) * 1_000;
}
