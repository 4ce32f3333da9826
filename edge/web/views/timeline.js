/**
 * @file Every track as a bar with its holes; the same as a table, for reading and for those who do not see the bars.
 */
import { h } from "../dom.js";
import { bytes, clock, span } from "../format.js";

/** @import { Gap, Recording, Track } from "../api.js" */

/** Why a span is missing, in words (API, section 4). @type {Record<string, string>} */
const REASONS = {
  "missing-chunk": "a chunk never arrived",
  "packet-loss": "lost on the network",
  muted: "muted",
  disconnected: "disconnected",
  paused: "paused",
  corrupt: "damaged data",
  disk: "server could not write",
};
/** Steps of the scale in ms; the first that gives few enough marks is taken. */
const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].map((seconds) => seconds * 1000);
/** Marks that fit a phone. */
const MARKS_MAX = 7;
/** A mark beyond this share of the axis would have its words outside of it. */
const LAST_MARK = 0.95;

/**
 * @param {Recording} recording
 * @param {HTMLVideoElement | undefined} video
 */
export function timelineView(recording, video) {
  const tracks = placed(recording);
  const totalMs = Math.max(recording.duration ?? 0, ...tracks.map(({ fromMs, track }) => (track.duration ? fromMs + track.duration : 0)));
  if (tracks.length === 0 || totalMs <= 0) return null; // failed before anything was placed, or not processed yet
  const lanes = tracks.map((place) => lane(place, totalMs));
  const lines = h("div", { class: "lanes" }, scale(totalMs), ...lanes);
  if (video !== undefined) lines.append(playhead(video, totalMs));
  const count = tracks.reduce((sum, { track }) => sum + (track.gaps?.length ?? 0), 0);
  const words = count === 0 ? "Nothing is missing from this recording." : `${count === 1 ? "One span is" : `${count} spans are`} missing. The striped parts are not in the file.`;
  const table = h("details", { open: count > 0 }, h("summary", { text: "As a table" }), h("div", { class: "scroll" }, trackTable(tracks)));
  return h("section", { class: "card timeline", "data-testid": "timeline" }, h("h2", { text: "Timeline" }), h("p", { class: "muted", text: words }), lines, table);
}

/**
 * Tracks on one axis: the earliest begins at 0.
 * @param {Recording} recording
 */
export function placed({ tracks = [] }) {
  const starts = tracks.map((track) => (track.startedAt ? Date.parse(track.startedAt) : Infinity));
  const first = Math.min(...starts);
  return tracks.map((track, index) => ({ track, fromMs: Number.isFinite(starts[index]) ? starts[index] - first : 0 }));
}

/** @typedef {{ track: Track, fromMs: number }} Placed */

/**
 * @param {Placed} place
 * @param {number} totalMs
 */
function lane({ track, fromMs }, totalMs) {
  const bar = h("div", { class: `lane-bar kind-${track.kind}` });
  put(bar, fromMs, track.duration ?? 0, totalMs);
  const gaps = (track.gaps ?? []).map((gap) => {
    const hole = h("div", { class: "hole", title: gapWords(gap) });
    put(hole, fromMs + gap.from, gap.to - gap.from, totalMs);
    return hole;
  });
  const label = `${track.participantId}, ${track.kind}: ${span(track.duration ?? 0)}. ${(track.gaps ?? []).map(gapWords).join(". ") || "Nothing missing"}.`;
  const name = h("div", { class: "lane-name", "aria-hidden": "true" }, h("strong", { text: track.participantId }), h("span", { class: "muted", text: track.kind }));
  return h("div", { class: "lane" }, name, h("div", { class: "lane-axis", role: "img", "aria-label": label }, bar, ...gaps));
}

/** @param {number} totalMs */
function scale(totalMs) {
  const step = STEPS_MS.find((ms) => totalMs / ms <= MARKS_MAX) ?? totalMs / MARKS_MAX;
  const marks = Array.from({ length: Math.floor((totalMs * LAST_MARK) / step) + 1 }, (_, index) => {
    const mark = h("span", { class: "mark-time", text: clock(index * step) });
    mark.style.left = `${(100 * index * step) / totalMs}%`;
    return mark;
  });
  return h("div", { class: "lane scale", "aria-hidden": "true" }, h("div", { class: "lane-name" }), h("div", { class: "lane-axis" }, ...marks));
}

/**
 * Where the player is; a click on the axis seeks. The keyboard seeks in the player itself.
 * @param {HTMLVideoElement} video
 * @param {number} totalMs
 */
function playhead(video, totalMs) {
  const line = h("div", { class: "playhead" });
  const layer = h("div", { class: "lane-axis" }, line);
  video.addEventListener("timeupdate", () => (line.style.left = `${Math.min(100, (100_000 * video.currentTime) / totalMs)}%`));
  layer.addEventListener("click", (event) => {
    const box = layer.getBoundingClientRect();
    video.currentTime = (((event.clientX - box.left) / box.width) * totalMs) / 1000;
  });
  return h("div", { class: "lane playhead-layer", "aria-hidden": "true" }, h("div", { class: "lane-name" }), layer);
}

/** @param {Placed[]} tracks */
function trackTable(tracks) {
  const rows = tracks.flatMap(({ track }) => {
    const own = [track.participantId, track.kind, track.codec ?? "–", span(track.duration ?? 0), `${track.chunks ?? 0} · ${bytes(track.bytes ?? 0)}`];
    const gaps = track.gaps ?? [];
    return [h("tr", {}, ...own.map((text) => h("td", { text })), h("td", {}, ...(gaps.length === 0 ? ["none"] : gaps.map((gap) => h("div", { text: gapWords(gap) })))))];
  });
  const heads = ["Participant", "Kind", "Codec", "Length", "Chunks", "Missing"].map((text) => h("th", { scope: "col", text }));
  return h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows));
}

/** @param {Gap} gap */
function gapWords({ from, to, reason }) {
  return `${span(to - from)} at ${clock(from)}: ${REASONS[reason] ?? reason}`;
}

/**
 * @param {HTMLElement} element
 * @param {number} fromMs
 * @param {number} lengthMs
 * @param {number} totalMs
 */
function put(element, fromMs, lengthMs, totalMs) {
  element.style.left = `${(100 * fromMs) / totalMs}%`;
  element.style.width = `${(100 * lengthMs) / totalMs}%`;
}
