/**
 * @file The recordings of a call as rows: a picture, status, progress. A row is rebuilt only when its facts changed, so
 * focus and pictures stay.
 */
import { fill, h, icon } from "../dom.js";
import { bytes, clock, when } from "../format.js";
import { progressBar, statusChip } from "./status.js";

/** @import { Api, Recording } from "../api.js" */

/**
 * @param {Api} api
 * @param {string} callId
 */
export function recordingList(api, callId) {
  const element = h("div", { "data-testid": "recordings" });
  const rows = h("ul", { class: "recordings" });
  /** @type {Map<string, { facts: string, row: HTMLElement }>} */
  const known = new Map();

  const show = async (/** @type {Recording[]} */ recordings) => {
    if (recordings.length === 0) return fill(element, empty());
    for (const recording of recordings) {
      const facts = JSON.stringify([recording.status, recording.stage, recording.progress, recording.duration, recording.fileSize, recording.error]);
      const before = known.get(recording.id);
      if (before?.facts === facts) continue;
      const focused = before?.row.contains(document.activeElement);
      const row = await recordingRow(api, callId, recording);
      before?.row.replaceWith(row);
      if (focused) row.querySelector("a")?.focus();
      known.set(recording.id, { facts, row });
    }
    const wanted = recordings.map((recording) => /** @type {HTMLElement} */ (known.get(recording.id)?.row));
    const same = wanted.length === rows.children.length && wanted.every((row, index) => rows.children[index] === row);
    if (!same) fill(rows, ...wanted);
    if (rows.parentNode !== element) fill(element, rows);
  };
  void show([]);
  return { element, show };
}

/**
 * @param {Api} api
 * @param {string} callId
 * @param {Recording} recording
 */
async function recordingRow(api, callId, recording) {
  const { id, status, startedAt, duration, fileSize, error } = recording;
  const facts = [duration && clock(duration), fileSize && bytes(fileSize), recording.format].filter(Boolean).join(" · ");
  const line = h("span", { class: "row-line" }, h("strong", { text: when(startedAt) }), statusChip(status));
  const said = error ? h("span", { class: "error-text", text: error.detail }) : progressBar(recording);
  const text = h("span", { class: "row-text" }, line, facts && h("span", { class: "muted", text: facts }), said);
  const href = `#/calls/${encodeURIComponent(callId)}/recordings/${encodeURIComponent(id)}`;
  const link = h("a", { class: "row", href }, await picture(api, callId, recording), text, icon("next"));
  return h("li", { "data-testid": "recording-row", "data-status": status, "data-recording-id": id }, link);
}

/**
 * @param {Api} api
 * @param {string} callId
 * @param {Recording} recording
 */
async function picture(api, callId, { id, status, startedAt, thumbnails }) {
  const frame = h("span", { class: "thumb" });
  if (status !== "completed" || thumbnails?.length === 0) return (frame.append(icon("camera")), frame);
  const img = h("img", { src: await api.thumbnailUrl(callId, id, 1), alt: `Picture from the recording of ${when(startedAt)}`, width: 160, height: 90, loading: "lazy" });
  img.addEventListener("error", () => fill(frame, icon("camera")));
  frame.append(img);
  return frame;
}

function empty() {
  const text = "When you record, it appears here at once, and can be played as soon as it is processed.";
  return h("div", { class: "card empty" }, icon("reel"), h("h3", { text: "Nothing recorded yet" }), h("p", { class: "muted", text }));
}
