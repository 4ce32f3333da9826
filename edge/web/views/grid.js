/**
 * @file Everybody's picture, as large as the page allows: equal tiles, or a screen with the people beside it.
 */
import { h } from "../dom.js";
import { tile } from "./tile.js";

/** @import { Conversation } from "../conversation.js" */
/** @import { Studio } from "../studio.js" */
/** @import { Facts } from "./tile.js" */

/**
 * @param {{ conversation: Conversation, studio: Studio, user: { userId: string, name: string } }} app
 */
export function grid(app) {
  const element = h("ul", { class: "grid", "data-testid": "grid", "aria-label": "People in the call" });
  /** @type {Map<string, ReturnType<typeof tile>>} */
  const tiles = new Map();

  const update = () => {
    const wanted = pictures(app);
    const keys = new Set(wanted.map(({ key }) => key));
    for (const [key, { element, stop }] of tiles) {
      if (keys.has(key)) continue;
      stop();
      element.remove();
      tiles.delete(key);
    }
    for (const [index, facts] of wanted.entries()) {
      const known = tiles.get(facts.key);
      if (known !== undefined) known.update(facts);
      const { element: one } = known ?? add(facts);
      if (element.children[index] !== one) element.insertBefore(one, element.children[index] ?? null);
    }
    lay(wanted);
  };
  const add = (/** @type {Facts} */ facts) => {
    const { userId, kind } = facts;
    const own = kind === "self" || userId === app.user.userId;
    const made = tile(facts, (size) => own || app.conversation.client?.show(userId, kind === "screen" ? "screen" : "video", size));
    tiles.set(facts.key, made);
    return made;
  };
  /** A moved video goes black for a moment, so only the numbers of the grid change. @param {Facts[]} facts */
  const lay = (facts) => {
    const screens = facts.filter(({ kind }) => kind === "screen").length;
    const columns = Math.ceil(Math.sqrt(facts.length));
    element.classList.toggle("with-screen", screens > 0);
    element.classList.toggle("pair", facts.length === 2);
    element.style.setProperty("--columns", String(columns));
    element.style.setProperty("--rows", String(Math.ceil(facts.length / columns)));
    element.dataset.count = String(facts.length);
  };
  return { element, update };
}

/** Screens first; then the others; oneself last. @returns {Facts[]} @param {Parameters<typeof grid>[0]} app */
function pictures({ conversation, studio, user }) {
  const { client, people } = conversation;
  const speech = (/** @type {string} */ userId) => (client?.speaker === userId ? "speaking" : "silent");
  /** @type {Facts[]} */ const screens = [];
  if (conversation.screen !== undefined) screens.push({ key: "screen", userId: user.userId, name: user.name, kind: "screen", track: conversation.screen, voice: "heard", speech: "silent" });
  /** @type {Facts[]} */ const faces = [];
  for (const { userId, name, tracks, muted } of people) {
    if (tracks.screen !== undefined) screens.push({ key: `screen/${userId}`, userId, name, kind: "screen", track: tracks.screen, voice: "heard", speech: "silent" });
    const voice = muted.has("audio") || tracks.audio === undefined ? "muted" : "heard";
    faces.push({ key: `person/${userId}`, userId, name, kind: "person", track: muted.has("video") ? undefined : tracks.video, voice, speech: speech(userId) });
  }
  const voice = studio.shown.microphone === "off" || studio.sound === undefined ? "muted" : "heard";
  const self = /** @type {Facts} */ ({ key: "self", userId: user.userId, name: user.name, kind: "self", track: studio.picture, voice, speech: speech(user.userId) });
  return [...screens, ...faces, self];
}
