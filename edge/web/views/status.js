/**
 * @file How a recording's status looks and reads; the same everywhere.
 */
import { h } from "../dom.js";

/** @import { Recording, RecordingStatus } from "../api.js" */

/** @type {Record<RecordingStatus, string>} */
const WORDS = {
  recording: "Recording",
  paused: "Paused",
  stopping: "Finishing",
  processing: "Processing",
  completed: "Ready",
  failed: "Failed",
};
/** @type {Record<string, string>} */
const STAGES = { mux: "Assembling", thumbnails: "Making thumbnails", upload: "Storing" };

/** @param {RecordingStatus} status */
export function statusChip(status) {
  return h("span", { class: `chip chip-${status}`, text: WORDS[status] ?? status });
}

/**
 * Percent done: the API counts either to 1 or to 100.
 * @param {Recording} recording
 */
export function percent({ progress }) {
  if (progress === null || progress === undefined) return undefined;
  return Math.round(progress <= 1 ? progress * 100 : progress);
}

/** @param {Recording} recording @returns {string} What is happening to it, in a few words. */
export function stageWords(recording) {
  if (recording.status === "stopping") return "Waiting for the last chunks";
  if (recording.status !== "processing") return WORDS[recording.status];
  return STAGES[recording.stage ?? ""] ?? "Waiting for a worker";
}

/** @param {Recording} recording */
export function progressBar(recording) {
  if (recording.status !== "processing" && recording.status !== "stopping") return null;
  const done = recording.status === "processing" ? percent(recording) : undefined;
  const label = stageWords(recording);
  const bar = h("progress", { max: 100, "aria-label": label });
  if (done !== undefined) bar.value = done;
  return h("div", { class: "progress" }, bar, h("span", { class: "muted", text: done === undefined ? label : `${label} ${done} %` }));
}
