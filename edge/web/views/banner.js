/**
 * @file Above every page: a recording that runs, or one that an earlier tab has left; and the call that one is in.
 */
import { fill, h } from "../dom.js";
import { bytes, plural } from "../format.js";
import { confirmDiscard } from "./upload-panel.js";

/** @param {import("../studio.js").Studio} studio */
export function bannerView(studio) {
  const element = h("div", { class: "banner", hidden: true, "data-testid": "banner" });
  const words = h("p");
  const open = h("a", { class: "button", text: "Open the call" });
  const goOn = h("button", { type: "button", text: "Continue recording", "data-testid": "resume", onclick: () => studio.goOn() });
  const finish = h("button", { type: "button", text: "Upload and finish", "data-testid": "finish", onclick: () => studio.stop() });
  const discard = h("button", { type: "button", class: "quiet", text: "Discard", "data-testid": "discard", onclick: () => confirmDiscard(studio) });
  fill(element, words, h("div", { class: "buttons" }, goOn, finish, discard, open));

  const update = () => {
    const callHash = `#/calls/${encodeURIComponent(studio.take?.callId ?? "")}`;
    const here = location.hash === callHash;
    const interrupted = studio.state === "interrupted";
    element.hidden = !interrupted && (here || !studio.busy || studio.take === undefined);
    goOn.hidden = finish.hidden = discard.hidden = !interrupted;
    goOn.disabled = studio.status?.upload === "blocked";
    open.hidden = here;
    open.href = callHash;
    words.textContent = bannerWords(studio);
  };
  studio.addEventListener("change", update);
  window.addEventListener("hashchange", update);
  return element;
}

/** @param {import("../studio.js").Studio} studio */
function bannerWords({ state, progress, status, trouble }) {
  if (status?.upload === "blocked") return `The upload has stopped: ${trouble?.detail ?? status.uploadError?.detail ?? ""}. What was recorded is kept in this browser.`;
  if (state === "recording") return "A recording is running.";
  if (state !== "interrupted") return "A recording is being sent. Please keep this page open.";
  const pending = progress?.pendingChunks ?? 0;
  if (pending === 0) return "A recording was interrupted. Everything so far is on the server.";
  return `A recording was interrupted. ${plural(pending, "chunk")} (${bytes(progress?.pendingBytes ?? 0)}) still being uploaded from this browser.`;
}

/**
 * On other pages: the way back into the call, and out of it.
 * @param {import("../conversation.js").Conversation} conversation
 */
export function callBannerView(conversation) {
  const back = h("a", { class: "button", text: "Back to the call" });
  const leave = h("button", { type: "button", class: "quiet", text: "Leave", onclick: () => conversation.leave() });
  const words = h("p", { text: "You are in a call: the others still see and hear you." });
  const element = h("div", { class: "banner calm", hidden: true }, words, h("div", { class: "buttons" }, back, leave));
  const update = () => {
    back.href = `#/calls/${encodeURIComponent(conversation.callId ?? "")}`;
    element.hidden = !conversation.busy || location.hash === back.hash;
  };
  conversation.addEventListener("change", update);
  window.addEventListener("hashchange", update);
  return element;
}

/** For reading out. @param {import("../call.js").Notice} notice */
export function noticeWords({ kind, name }) {
  return {
    came: `${name} has joined`,
    went: `${name} has left`,
    "recording-started": "Recording has started",
    "recording-paused": "Recording is paused",
    "recording-resumed": "Recording goes on",
    "recording-stopped": "Recording has stopped",
  }[kind];
}
