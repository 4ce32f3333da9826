/**
 * @file A call's page: the lobby or the room, its recordings, and recording in this browser.
 */
import { ApiError } from "../api.js";
import { fill, h, icon, setText } from "../dom.js";
import { pauseFor, poll } from "../polling.js";
import { recordingList } from "./recording-list.js";
import { localRecording } from "./local-recording.js";
import { lobbyView } from "./lobby.js";
import { recordingBanner, roomView } from "./room.js";

/** @import { Call, Recording } from "../api.js" */

/**
 * What this page has read. A `stranger` may not look at the call, but may enter it if nobody was invited by name.
 * @typedef {{ call: Call | undefined, recordings: Recording[], access: "unknown" | "viewer" | "stranger" }} Known
 */

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {AbortSignal} signal
 * @returns {import("../app.js").View}
 */
export function callView(app, callId, signal) {
  const title = h("h1", { text: "Call" });
  const error = h("p", { class: "form-error", role: "alert" });
  const list = recordingList(app.api, callId);
  const known = /** @type {Known} */ ({ call: undefined, recordings: [], access: "unknown" });
  const { studio, conversation, user } = app;
  const hosts = () => (known.call?.hostId ?? known.call?.host) === user.userId;
  const lobby = lobbyView(app, callId, known, signal);
  const room = roomView(app, callId, known, { hosts, changed: () => askNow() });
  const banner = recordingBanner(app, callId);
  const local = localRecording(app, callId, known, hosts, signal);

  const update = () => {
    const inside = conversation.in(callId);
    if (inside !== (room.element.parentNode === stage)) showStage(inside ? room.element : lobby.element);
    for (const part of [inside ? room : lobby, banner, local]) part.update();
  };
  /** What had the focus is gone with its view: the keyboard goes on in the new one. @param {HTMLElement} element */
  const showStage = (element) => {
    const focused = stage.contains(document.activeElement);
    fill(stage, element);
    if (focused) /** @type {HTMLElement | null} */ (element.querySelector(element === room.element ? ".bar button" : ".join"))?.focus({ preventScroll: true });
  };
  const ask = async () => {
    if (known.call === undefined) {
      known.call = await app.api.call(callId);
      known.access = "viewer";
      setText(title, known.call.title || "Untitled call");
      document.title = `${title.textContent} · Callreel`;
      if (head.parentNode !== page) fill(page, ...parts);
    }
    known.recordings = await app.api.recordings(callId);
    setText(error, "");
    await list.show(known.recordings);
    update();
    return pauseFor(known.recordings);
  };
  const failed = (/** @type {unknown} */ cause) => {
    const unknown = cause instanceof ApiError && (cause.status === 404 || cause.status === 403);
    if (unknown && known.call === undefined) showStranger();
    else setText(error, cause instanceof ApiError ? cause.detail : "The call could not be read.");
  };
  /** Only the server knows whether the link is good, and it tells those who join. */
  const showStranger = () => {
    known.access = "stranger";
    const words = h("p", { class: "muted", text: "You have not been in this call yet. If you were given its link, join." });
    const parts = [crumb("#/", "Calls"), h("div", { class: "stack small", "data-testid": "no-call" }, h("h1", { text: "Join a call" }), words), banner.element, stage];
    if (refused()) fill(page, nowhere());
    else if (stage.parentNode === null || head.parentNode === page) fill(page, ...parts);
    update();
  };
  const refused = () => conversation.callId === callId && ["no-such-call", "forbidden"].includes(conversation.client?.reason ?? "");
  const askNow = poll(ask, failed, signal);
  const news = () => [studio.state, conversation.client?.state, conversation.client?.recording].join();
  let before = news();
  const changed = () => {
    update();
    if (before !== (before = news())) askNow();
  };
  studio.addEventListener("change", changed, { signal });
  conversation.addEventListener("change", changed, { signal });
  signal.addEventListener("abort", () => (studio.busy || conversation.busy ? undefined : studio.closeCamera()));

  const head = h("div", { class: "head" }, h("div", {}, crumb("#/", "Calls"), title), copyLink());
  const stage = h("div", { class: "call-stage" }, lobby.element);
  const recordings = h("section", { class: "stack small", "aria-labelledby": "recordings-title" }, h("h2", { id: "recordings-title", text: "Recordings" }), list.element);
  const parts = [head, error, banner.element, stage, h("div", { class: "columns" }, recordings, local.element)];
  const page = h("div", { class: "page call-page" }, ...parts);
  update();
  return { title: "Call", element: page };
}

/** Instead of everything: a call that does not exist has no camera and no recordings. */
function nowhere() {
  const words = h("p", { class: "muted", text: "It does not exist, or you are not invited to it." });
  return h("div", { class: "stack" }, crumb("#/", "Calls"), h("div", { class: "card empty", role: "alert", "data-testid": "no-call" }, icon("reel"), h("h1", { text: "There is no such call" }), words));
}

/** @param {string} href @param {string} text */
export function crumb(href, text) {
  return h("a", { class: "crumb", href }, icon("back"), text);
}

/** A button that copies the address, for inviting. */
function copyLink() {
  const words = h("span", { text: "Copy link" });
  const onclick = async () => {
    const copied = await navigator.clipboard.writeText(location.href).then(() => true, () => false);
    setText(words, copied ? "Copied" : "Copy the address above");
  };
  const button = h("button", { type: "button", onclick, "aria-live": "polite" });
  fill(button, icon("link"), words);
  return button;
}
