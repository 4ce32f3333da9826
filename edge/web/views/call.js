/**
 * @file A call: camera and recording on one side, its recordings on the other.
 */
import { ApiError } from "../api.js";
import { fill, h, icon, setText } from "../dom.js";
import { pauseFor, poll } from "../polling.js";
import { recordingList } from "./recording-list.js";
import { stageView } from "./stage.js";

/** @import { Call, Recording } from "../api.js" */

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
  /** @type {{ call: Call | undefined, recordings: Recording[] }} */
  const known = { call: undefined, recordings: [] };
  const stage = stageView(app, callId, known, signal);

  const ask = async () => {
    if (known.call === undefined) {
      known.call = await app.api.call(callId);
      setText(title, known.call.title || "Untitled call");
      document.title = `${title.textContent} · Callreel`;
      if (head.parentNode !== page) fill(page, ...parts);
    }
    known.recordings = await app.api.recordings(callId);
    setText(error, "");
    await list.show(known.recordings);
    stage.update();
    return pauseFor(known.recordings);
  };
  const failed = (/** @type {unknown} */ cause) => {
    const unknown = cause instanceof ApiError && cause.status === 404;
    if (unknown && known.call === undefined) fill(page, nowhere());
    else setText(error, cause instanceof ApiError ? cause.detail : "The call could not be read.");
  };
  const askNow = poll(ask, failed, signal);
  let before = app.studio.state;
  app.studio.addEventListener("change", () => (before !== (before = app.studio.state) ? askNow() : undefined), { signal });

  const head = h("div", { class: "head" }, h("div", {}, crumb("#/", "Calls"), title), copyLink());
  const recordings = h("section", { "aria-labelledby": "recordings-title" }, h("h2", { id: "recordings-title", text: "Recordings" }), list.element);
  const parts = [head, error, stage.element, recordings];
  const page = h("div", { class: "page" }, ...parts);
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
