/**
 * @file The stage: camera preview, devices, level, and the record button.
 */
import { fill, h, icon, setText } from "../dom.js";
import { clock } from "../format.js";
import { deviceChoice } from "./devices.js";
import { levelMeter } from "./meter.js";
import { uploadPanel } from "./upload-panel.js";

/** @import { Call, Recording } from "../api.js" */
/** How often the clock moves while recording; smoother would be restless. */
const CLOCK_MS = 250;

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {{ call: Call | undefined, recordings: Recording[] }} known What the call view has read.
 * @param {AbortSignal} signal
 */
export function stageView({ studio, user }, callId, known, signal) {
  const video = h("video", { class: "preview", muted: true, playsinline: true, autoplay: true, "aria-label": "Camera preview" });
  video.muted = true;
  const time = h("span", { class: "clock", "data-testid": "clock", "aria-hidden": "true" });
  const live = h("span", { class: "live", hidden: true }, h("span", { class: "dot" }), time);
  const turnOn = h("button", { type: "button", "data-testid": "open-camera", onclick: () => studio.openCamera().catch(() => {}) }, icon("camera"), "Turn on camera");
  const off = h("div", { class: "camera-off" }, icon("camera"), h("p", { text: "Your camera is off" }), turnOn);
  const record = h("button", { type: "button", class: "record", "data-testid": "record" }, h("span", { class: "record-dot" }), h("span", { text: "Record" }));
  const stop = h("button", { type: "button", class: "record stop", "data-testid": "stop", hidden: true, onclick: () => studio.stop() }, h("span", { class: "record-square" }), h("span", { text: "Stop" }));
  const hint = h("p", { class: "hint", hidden: true });
  const meter = levelMeter(signal);
  const devices = deviceChoice(studio, signal);
  const panel = uploadPanel(studio, callId);

  const host = () => (known.call?.hostId ?? known.call?.host) === user.userId;
  const liveId = () => known.recordings.find((recording) => recording.status === "recording")?.id;
  record.addEventListener("click", () => void studio.record({ callId, userId: user.userId, host: host(), liveRecordingId: liveId() }));

  const update = () => {
    const here = studio.take === undefined || studio.take.callId === callId;
    const recording = studio.state === "recording" && here;
    if (video.srcObject !== (studio.stream ?? null)) video.srcObject = studio.stream ?? null;
    meter.listen(studio.stream);
    off.hidden = studio.camera === "live";
    live.hidden = !recording;
    record.hidden = recording;
    stop.hidden = !recording;
    record.disabled = known.call === undefined || studio.busy || (!host() && liveId() === undefined);
    turnOn.disabled = studio.camera === "opening";
    setText(/** @type {Element} */ (record.lastElementChild), recordWords(studio.state, host(), liveId()));
    hint.hidden = known.call === undefined || host() || liveId() !== undefined;
    setText(hint, "Only the host can start a recording. You can add your camera once it runs.");
    setText(time, clock(studio.progress?.recordedMs ?? 0));
    devices.update();
    panel.update();
  };
  studio.addEventListener("change", update, { signal });
  const ticking = setInterval(() => setText(time, clock(studio.progress?.recordedMs ?? 0)), CLOCK_MS);
  signal.addEventListener("abort", () => clearInterval(ticking));
  signal.addEventListener("abort", () => (studio.busy ? undefined : studio.closeCamera()));
  update();

  const picture = h("div", { class: "picture" }, video, off, live);
  const controls = h("div", { class: "controls" }, record, stop, meter.element);
  const element = h("section", { class: "stage", "aria-label": "Camera and recording" }, picture, h("div", { class: "stack" }, h("div", { class: "card" }), panel.element));
  fill(/** @type {Element} */ (element.querySelector(".card")), devices.element, controls, hint);
  return { element, update };
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
