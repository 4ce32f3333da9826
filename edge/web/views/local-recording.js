/**
 * @file Recording in this browser: the record button, and what has reached the server. Works in a call and without one.
 */
import { isLive } from "../api.js";
import { h, setText } from "../dom.js";
import { clock } from "../format.js";
import { uploadPanel } from "./upload-panel.js";

/** @import { Known } from "./call.js" */

/** How often the clock moves while recording; smoother would be restless. */
const CLOCK_MS = 250;

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {Known} known
 * @param {() => boolean} hosts
 * @param {AbortSignal} signal
 */
export function localRecording({ studio, user }, callId, known, hosts, signal) {
  const time = h("span", { class: "clock", "data-testid": "clock", "aria-hidden": "true" });
  const live = h("span", { class: "live", hidden: true }, h("span", { class: "dot" }), time);
  const record = h("button", { type: "button", class: "record", "data-testid": "record" }, h("span", { class: "record-dot" }), h("span", { text: "Record" }));
  const stop = h("button", { type: "button", class: "record stop", "data-testid": "stop", hidden: true, onclick: () => studio.stop() }, h("span", { class: "record-square" }), h("span", { text: "Stop" }));
  const hint = h("p", { class: "hint" });
  const panel = uploadPanel(studio, callId);

  const liveId = () => known.recordings.find(({ status }) => isLive(status))?.id;
  record.addEventListener("click", () => void studio.record({ callId, userId: user.userId, host: hosts(), liveRecordingId: liveId() }));

  const update = () => {
    const here = studio.take === undefined || studio.take.callId === callId;
    const recording = studio.state === "recording" && here;
    live.hidden = !recording;
    record.hidden = recording;
    stop.hidden = !recording;
    record.disabled = known.call === undefined || studio.busy || (!hosts() && liveId() === undefined);
    setText(/** @type {Element} */ (record.lastElementChild), recordWords(studio.state, hosts(), liveId()));
    setText(hint, hintWords(known.call === undefined || hosts() || liveId() !== undefined));
    setText(time, clock(studio.progress?.recordedMs ?? 0));
    panel.element.hidden = studio.state === "idle" && studio.trouble === undefined;
    panel.update();
  };
  const ticking = setInterval(() => setText(time, clock(studio.progress?.recordedMs ?? 0)), CLOCK_MS);
  signal.addEventListener("abort", () => clearInterval(ticking));
  const title = h("div", { class: "title-line" }, h("h2", { id: "local-title", text: "Record in this browser" }), live);
  const element = h("section", { class: "stack", "aria-labelledby": "local-title" }, h("div", { class: "card" }, title, hint, h("div", { class: "controls local" }, record, stop)), panel.element);
  return { element, update };
}

/** @param {boolean} allowed */
function hintWords(allowed) {
  if (!allowed) return "Only the host can start a recording. You can add your camera once it runs.";
  return "Your own camera in full quality, whatever the line: it is kept here until the server has it.";
}

/**
 * @param {import("../studio.js").StudioState} state
 * @param {boolean} host
 * @param {string | undefined} liveId
 */
function recordWords(state, host, liveId) {
  if (state === "starting") return "Starting…";
  if (state === "finishing") return "Finishing…";
  if (liveId !== undefined && state !== "interrupted") return host ? "Join the recording" : "Add my camera";
  return "Record";
}
