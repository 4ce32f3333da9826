/**
 * @file One recording: player, thumbnails, timeline, facts, download, delete.
 */
import { ApiError, isFinal } from "../api.js";
import { fill, h, icon, setText } from "../dom.js";
import { when } from "../format.js";
import { pauseFor, poll } from "../polling.js";
import { crumb } from "./call.js";
import { artifactTable, factList } from "./facts.js";
import { playerView } from "./player.js";
import { progressBar, statusChip } from "./status.js";
import { timelineView } from "./timeline.js";

/** @import { Recording } from "../api.js" */

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {string} recordingId
 * @param {AbortSignal} signal
 * @returns {import("../app.js").View}
 */
export function recordingView({ api }, callId, recordingId, signal) {
  const back = `#/calls/${encodeURIComponent(callId)}`;
  const title = h("h1", { text: "Recording" });
  const status = h("span", { role: "status" });
  const error = h("p", { class: "form-error", role: "alert" });
  const actions = h("div", { class: "buttons" });
  const body = h("div", { class: "stack" });
  let facts = "";

  const ask = async () => {
    const recording = await api.recording(callId, recordingId);
    setText(error, "");
    const now = JSON.stringify(recording);
    if (now !== facts) await show(recording);
    facts = now;
    return pauseFor([recording]);
  };
  const show = async (/** @type {Recording} */ recording) => {
    setText(title, when(recording.startedAt));
    document.title = `Recording of ${title.textContent} · Callreel`;
    fill(status, statusChip(recording.status));
    const ready = recording.status === "completed";
    const download = ready && h("a", { class: "button primary", href: await api.downloadUrl(callId, recordingId), download: `${recordingId}.${recording.format ?? "webm"}`, "data-testid": "download" }, icon("download"), "Download");
    const remove = isFinal(recording.status) && h("button", { type: "button", class: "danger", "data-testid": "delete", onclick: () => dialog.showModal() }, icon("trash"), "Delete");
    fill(actions, download, remove);
    await showBody(api, body, recording, signal);
  };
  const failed = (/** @type {unknown} */ cause) => {
    if (cause instanceof ApiError && cause.status === 404) fill(body, h("div", { class: "card empty" }, icon("reel"), h("h3", { text: "This recording does not exist" }), h("p", { class: "muted", text: "It may have been deleted." })));
    else setText(error, cause instanceof ApiError ? cause.detail : "The recording could not be read.");
  };
  poll(ask, failed, signal);
  const dialog = deleteDialog(() => api.deleteRecording(callId, recordingId), () => (location.hash = back));
  const head = h("div", { class: "head" }, h("div", {}, crumb(back, "Back to the call"), h("div", { class: "title-line" }, title, status)), actions);
  return { title: "Recording", element: h("div", { class: "page", "data-testid": "recording" }, head, error, body, dialog) };
}

/**
 * @param {import("../api.js").Api} api
 * @param {HTMLElement} body
 * @param {Recording} recording
 * @param {AbortSignal} signal
 */
async function showBody(api, body, recording, signal) {
  const player = recording.status === "completed" ? await playerView(api, recording, signal) : undefined;
  const picture = player?.element ?? waiting(recording);
  const facts = h("section", { class: "card", "aria-label": "Details" }, h("h2", { text: "Details" }), factList(recording));
  const timeline = timelineView(recording, player?.video);
  fill(body, h("div", { class: "columns wide-left" }, picture, facts), timeline, artifactTable(recording));
}

/** @param {Recording} recording */
function waiting(recording) {
  const { error } = recording;
  if (recording.status === "failed") {
    const code = h("p", { class: "code", text: error?.code ?? "unknown" });
    return h("div", { class: "card empty failed", role: "alert" }, icon("warning"), h("h3", { text: "This recording failed" }), h("p", { text: error?.detail ?? "No reason was given." }), code);
  }
  const text = recording.status === "recording" ? "It is being recorded right now." : "It can be played here in a moment.";
  return h("div", { class: "card empty" }, icon("reel"), h("h3", { text: "Not ready yet" }), h("p", { class: "muted", text }), progressBar(recording));
}

/**
 * @param {() => Promise<void>} remove
 * @param {() => void} gone
 */
function deleteDialog(remove, gone) {
  const error = h("p", { class: "form-error", role: "alert" });
  const onclick = () => remove().then(gone, (cause) => setText(error, cause instanceof ApiError ? cause.detail : "It could not be deleted."));
  const dialog = h("dialog", { "aria-labelledby": "delete-title" });
  const cancel = h("button", { type: "button", text: "Keep it", autofocus: true, onclick: () => dialog.close() });
  const yes = h("button", { type: "button", class: "danger solid", text: "Delete", "data-testid": "confirm-delete", onclick });
  fill(dialog, h("h2", { id: "delete-title", text: "Delete this recording?" }), h("p", { class: "muted", text: "The file, its thumbnails and everything captured for it are removed. This cannot be undone." }), error, h("div", { class: "buttons end" }, cancel, yes));
  return dialog;
}
