/** What the tests of the call share: signing in, calls, recordings, browsers with a page that sits in a call. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";
import { launchForPage } from "../support/browsers.mjs";

/** Any one step; generous: four browsers encode and decode on a machine with two cores. */
export const STEP_WITHIN_MS = Number(process.env.CALLREEL_STEP_MS ?? 60_000);
/** How long a token is good for: longer than any test. */
const TOKEN_S = 3_600;
/** Between two looks at a page. */
const LOOK_EVERY_MS = 200;

export const URL_OF_EDGE = process.env.CALLREEL_URL ?? "";

/** With the secret that signs tokens where the edge is on another machine, else by the development login. @param {string} user */
export async function signIn(user) {
  const secret = process.env.CALLREEL_JWT_SECRET;
  if (secret !== undefined) return signed(user, secret);
  const answer = await fetch(`${URL_OF_EDGE}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: user }),
  });
  const told = await answer.json();
  return told.token ?? told.data.token;
}

/** A token (RFC 7519). @param {string} user @param {string} secret */
function signed(user, secret) {
  const part = (/** @type {unknown} */ json) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const told = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + TOKEN_S })}`;
  return `${told}.${createHmac("sha256", secret).update(told).digest("base64url")}`;
}

/** @param {string} token @param {string} method @param {string} path @param {unknown} [body] */
export async function api(token, method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(URL_OF_EDGE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const told = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(told)}`);
  return told.data;
}

const SCRIPTS = ["page.js", "sources.js"];

/** A server of the page's scripts, on a port of its own. */
export async function servePage() {
  const read = async (/** @type {string} */ name) => /** @type {[string, Buffer]} */ ([`/${name}`, await readFile(new URL(name, import.meta.url))]);
  const scripts = new Map(await Promise.all(SCRIPTS.map(read)));
  const html = '<!doctype html><title>call</title><body><script type="module" src="page.js"></script>';
  const server = createServer(({ url = "" }, response) => {
    const script = scripts.get(url);
    response.writeHead(200, { "content-type": script === undefined ? "text/html" : "text/javascript" });
    response.end(script ?? html);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

/** A stage: browsers, a call, and people in it. */
export class Stage {
  /** @type {Map<string, import("puppeteer-core").Browser>} */
  #browsers = new Map();
  /** @type {Map<string, Person>} */
  people = new Map();

  /** @param {object} [call] what the call is created with */
  static async open(call = {}) {
    const stage = new Stage();
    stage.page = await servePage();
    stage.host = await signIn("host");
    stage.call = await api(stage.host, "POST", "/video-calls", call);
    return stage;
  }

  /** Somebody with a page of their own, not in the call yet. @param {string} user @param {"chromium" | "firefox"} [name] */
  async person(user, name = "chromium") {
    if (!this.#browsers.has(name)) this.#browsers.set(name, await launchForPage(name));
    const context = await this.#browsers.get(name).createBrowserContext();
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_WITHIN_MS);
    const person = new Person(this, user, page, await signIn(user));
    this.people.set(user, person);
    await person.open();
    return person;
  }

  /** Everybody sees and hears everybody else from now on. @param {Person[]} people */
  async flows(people) {
    await Promise.all(people.map((person) => person.page.evaluate(() => window.call.note())));
    for (const person of people) {
      const others = people.filter((other) => other !== person).map((other) => other.user);
      await person.until((users) => window.call.grown(users), others);
    }
  }

  /** A page sees and hears others from now on. @param {Person} person @param {string[]} users */
  async sees(person, users) {
    await person.page.evaluate(() => window.call.note());
    await person.until((users) => window.call.grown(users), users);
  }

  /** Starts a recording, and waits until a person is told. @param {Person} person */
  async record(person) {
    const { id, startedAt } = await api(this.host, "POST", `/video-calls/${this.call.id}/recording/start`, {});
    assert.deepEqual((await person.told("recording-started")).data, { recordingId: id });
    return { id, begun: Date.parse(startedAt) };
  }

  async close() {
    await Promise.all([...this.#browsers.values()].map((browser) => browser.close()));
    this.page.close();
  }
}

/** A test in a call of its own. @param {string} name @param {number} timeout @param {(stage: Stage) => Promise<void>} body */
export function inCall(name, timeout, body) {
  test(name, { timeout }, async () => {
    const stage = await Stage.open();
    try {
      await body(stage);
    } finally {
      await stage.close();
    }
  });
}

export class Person {
  /** @param {Stage} stage @param {string} user @param {import("puppeteer-core").Page} page @param {string} token */
  constructor(stage, user, page, token) {
    Object.assign(this, { stage, user, page, token });
  }

  async open() {
    await this.page.goto(this.stage.page.url, { waitUntil: "load" });
    await this.page.waitForFunction(() => typeof window.join === "function");
  }

  /** Sits down and publishes. @param {object} [more] of `Wish` */
  join(more = {}) {
    const wish = { url: URL_OF_EDGE, room: this.stage.call.id, user: this.user, token: this.token, media: "devices", ...more };
    return this.page.evaluate((wish) => window.join(wish), wish);
  }

  /** Loads the page again, and sits down as somebody who knows nothing of before. @param {object} [more] of `Wish` */
  async reload(more = {}) {
    await this.page.reload({ waitUntil: "load" });
    await this.page.waitForFunction(() => typeof window.join === "function");
    return this.join(more);
  }

  /** Waits until something holds in the page. @param {(...args: any[]) => unknown} test @param {...unknown} args */
  async until(test, ...args) {
    try {
      await this.page.waitForFunction(test, { polling: LOOK_EVERY_MS, timeout: STEP_WITHIN_MS }, ...args);
    } catch (error) {
      const told = await this.page.evaluate(() => window.call?.told());
      throw new Error(`${this.user} waits in vain for ${test} ${JSON.stringify(args)}: ${JSON.stringify(told)}`, { cause: error });
    }
  }

  /** Waits for the first frame of a type, of somebody if named. @param {string} type @param {string} [user] */
  async told(type, user) {
    const find = (/** @type {string} */ type, /** @type {string} */ user) =>
      window.call.frames.find((frame) => frame.type === type && (user === null || frame.userId === user));
    await this.until(find, type, user ?? null);
    return this.page.evaluate(find, type, user ?? null);
  }

  /** Shows a screen with its sound, or one of both. @param {"audio" | "video"} [only] */
  share(only) {
    return this.page.evaluate((only) => window.call.share(only), only);
  }

  unshare() {
    return this.page.evaluate(() => window.call.unshare());
  }

  /** Waits until others send just these. @param {Record<string, string>} media by user, as `audio,video` */
  gets(media) {
    const test = (/** @type {Record<string, string>} */ media) => Object.entries(media).every(([user, all]) => `${window.call.mediaOf(user)}` === all);
    return this.until(test, media);
  }

  /** @param {string} type @param {unknown} [data] */
  send(type, data) {
    return this.page.evaluate((type, data) => window.call.send(type, data), type, data);
  }
}

/** The recording as soon as it is completed. @param {string} token @param {string} call @param {string} recording */
export async function completed(token, call, recording) {
  const deadline = Date.now() + 3 * STEP_WITHIN_MS;
  for (;;) {
    const told = await api(token, "GET", `/video-calls/${call}/recording/${recording}`);
    if (told.status === "completed") return told;
    if (told.status === "failed" || Date.now() > deadline) throw new Error(`not completed: ${JSON.stringify(told)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
