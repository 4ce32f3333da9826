/**
 * @file The player and its five thumbnails; a thumbnail seeks to its moment.
 */
import { h, setText } from "../dom.js";
import { clock } from "../format.js";
import { playOn } from "./play-on.js";
import { placed } from "./timeline.js";

/** @import { Api, Recording } from "../api.js" */

/**
 * @param {Api} api
 * @param {Recording} recording
 * @param {AbortSignal} signal Ends the download when the page is left.
 */
export async function playerView(api, recording, signal) {
  const src = await api.downloadUrl(recording.callId, recording.id);
  const video = h("video", { class: "player", controls: true, playsinline: true, preload: "metadata", src, "data-testid": "player", "aria-label": "Recording" });
  const failed = h("p", { class: "form-error", role: "alert" });
  const skipped = h("p", { class: "muted", role: "status", "data-testid": "skipped" });
  const tell = {
    skipped: () => setText(skipped, "Some pictures after a gap could not be shown."),
    failed: () => setText(failed, "This browser cannot play the file. It can still be downloaded."),
  };
  playOn(video, spans(recording), tell, signal);
  signal.addEventListener("abort", () => (video.removeAttribute("src"), video.load()));
  const count = recording.thumbnails?.length ?? 0;
  const pictures = await Promise.all(Array.from({ length: count }, (_, n) => thumbnail(api, recording, video, n, count)));
  return { video, element: h("div", { class: "stack small" }, video, failed, skipped, h("div", { class: "thumbs", role: "group", "aria-label": "Jump to a moment" }, ...pictures)) };
}

/**
 * The gaps of every track, on the file's axis.
 * @param {Recording} recording
 */
function spans(recording) {
  return placed(recording).flatMap(({ track, fromMs }) => (track.gaps ?? []).map(({ from, to }) => ({ fromS: (fromMs + from) / 1000, toS: (fromMs + to) / 1000 })));
}

/**
 * Thumbnails are spread evenly, each from the middle of its part.
 * @param {Api} api
 * @param {Recording} recording
 * @param {HTMLVideoElement} video
 * @param {number} n
 * @param {number} count
 */
async function thumbnail(api, recording, video, n, count) {
  // Pictures are spread from the first frame to the last, as the worker takes them.
  const atMs = ((recording.duration ?? 0) * n) / Math.max(1, count - 1);
  const img = h("img", { src: await api.thumbnailUrl(recording.callId, recording.id, n), alt: `The recording at ${clock(atMs)}`, width: 320, height: 180, "data-testid": "thumbnail" });
  const onclick = () => {
    video.currentTime = atMs / 1000;
    video.focus();
  };
  return h("button", { type: "button", class: "thumb-button", onclick, "aria-label": `Jump to ${clock(atMs)}` }, img, h("span", { text: clock(atMs) }));
}
