/**
 * @file What is recorded, what the server has confirmed, what still waits, and what went wrong.
 */
import { fill, h, icon, setText } from "../dom.js";
import { bytes, plural, span } from "../format.js";

/** @import { Studio } from "../studio.js" */

/**
 * @param {Studio} studio
 * @param {string} callId
 */
export function uploadPanel(studio, callId) {
  const words = h("p", { class: "panel-words", role: "status", "data-testid": "status", "data-state": "idle" });
  const recorded = h("dd", { text: "–" });
  const confirmed = h("dd", { text: "–" });
  const waiting = h("dd", { text: "–" });
  const facts = h("dl", { class: "facts three" }, pair("Recorded", recorded), pair("Confirmed", confirmed), pair("Waiting", waiting));
  const trouble = h("div", { class: "trouble", role: "alert", hidden: true, "data-testid": "trouble" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Confirmed by the server" });
  let told = "";

  const update = () => {
    const { progress, status, take } = studio;
    setText(words, stateWords(studio));
    words.dataset.state = studio.state;
    words.dataset.upload = status?.upload ?? "idle";
    if (take !== undefined) Object.assign(words.dataset, { recordingId: take.recordingId, callId: take.callId });
    if (progress !== undefined) {
      const { recordedMs, recordedChunks, recordedBytes, pendingChunks, pendingBytes } = progress;
      words.dataset.recordedMs = String(recordedMs);
      words.dataset.pendingChunks = String(pendingChunks);
      setText(recorded, `${span(recordedMs)} · ${bytes(recordedBytes)}`);
      setText(confirmed, `${recordedChunks - pendingChunks} of ${plural(recordedChunks, "chunk")}`);
      setText(waiting, pendingChunks === 0 ? "nothing" : `${plural(pendingChunks, "chunk")}, ${bytes(pendingBytes)}`);
      bar.value = recordedChunks === 0 ? 0 : (recordedChunks - pendingChunks) / recordedChunks;
    }
    const key = JSON.stringify([studio.trouble, status?.upload === "blocked", studio.state === "finishing"]);
    if (key === told) return;
    told = key;
    showTrouble(trouble, studio);
  };
  const element = h("section", { class: "card panel", "aria-label": "Upload", "data-call": callId }, h("h2", { text: "Upload" }), words, bar, facts, trouble);
  return { element, update };
}

/** @param {Studio} studio */
export function stateWords({ state, status }) {
  if (status?.upload === "offline") return "You are offline. Everything is kept in this browser and goes out when the network is back.";
  if (status?.upload === "waiting") return "The server does not answer. Everything is kept here; trying again by itself.";
  if (status?.upload === "blocked") return "The upload has stopped. What was recorded is kept in this browser.";
  return {
    idle: "Nothing is being recorded.",
    starting: "Starting…",
    recording: "Recording. Each second is on its way to the server.",
    interrupted: "The recording was interrupted. Go on, or finish it.",
    finishing: "Sending what is left. Please keep this page open.",
    finished: "Everything is on the server.",
  }[state];
}

/**
 * @param {HTMLElement} element
 * @param {Studio} studio
 */
function showTrouble(element, studio) {
  const { trouble } = studio;
  element.hidden = trouble === undefined;
  if (trouble === undefined) return fill(element);
  const code = [trouble.code, trouble.requestId].filter(Boolean).join(" · ");
  const blocked = studio.status?.upload === "blocked";
  const again = (blocked || studio.state === "finishing") && h("button", { type: "button", text: "Try again", onclick: () => studio.retry() });
  const discard = blocked && h("button", { type: "button", class: "quiet danger", text: "Discard", onclick: () => confirmDiscard(studio) });
  fill(element, icon("warning"), h("div", {}, h("p", { text: trouble.detail }), h("p", { class: "code", text: code }), h("div", { class: "buttons" }, again, discard)));
}

/** @param {Studio} studio */
export function confirmDiscard(studio) {
  if (confirm("Delete what was recorded in this browser and not uploaded? This cannot be undone.")) void studio.discard();
}

/** @param {string} term @param {HTMLElement} value */
function pair(term, value) {
  return h("div", {}, h("dt", { text: term }), value);
}
