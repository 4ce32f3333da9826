/**
 * @file Before a call: how one looks and sounds, which devices are used, and the way in.
 */
import { fill, h, icon, setText } from "../dom.js";
import { deviceChoice } from "./devices.js";
import { levelMeter } from "./meter.js";
import { cameraButton, microphoneButton } from "./switches.js";

/** @import { Known } from "./call.js" */

/** Why one is no longer in the call, for people. @type {Record<string, string>} */
const REASONS = {
  left: "You have left. You can come back while it lasts.",
  replaced: "You have joined from another tab or device. This one has left.",
  "call-ended": "Its recordings stay here.",
  "room-full": "The call is full. Try again when somebody has left.",
  forbidden: "You are not invited to this call. Ask its host.",
};

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {Known} known
 * @param {AbortSignal} signal
 */
export function lobbyView(app, callId, known, signal) {
  const { studio, conversation, user } = app;
  const video = h("video", { class: "preview", playsinline: true, autoplay: true, "aria-label": "Camera preview" });
  video.muted = true;
  const offWords = h("p");
  const turnOn = h("button", { type: "button", "data-testid": "open-camera", onclick: () => studio.openCamera().catch(() => {}) }, icon("camera"), "Turn on camera");
  const off = h("div", { class: "camera-off" }, icon("camera-off"), offWords, turnOn);
  const microphone = microphoneButton(app);
  const camera = cameraButton(app);
  const switches = h("div", { class: "bar floating", role: "toolbar", "aria-label": "Microphone and camera" }, microphone.element, camera.element);
  const meter = levelMeter(signal);
  const devices = deviceChoice(studio, signal);
  const join = h("button", { type: "button", class: "primary wide join", "data-testid": "join", onclick: () => void conversation.join(callId, user) });
  const words = h("p", { class: "join-words", role: "status", "data-testid": "lobby-words" });
  const heading = h("h2");
  const trouble = h("p", { class: "form-error", role: "alert" });

  const update = () => {
    const { stream } = studio;
    if (video.srcObject !== (stream ?? null)) video.srcObject = stream ?? null;
    meter.listen(stream);
    const live = studio.camera === "live";
    off.hidden = studio.picture !== undefined;
    video.hidden = !off.hidden;
    turnOn.hidden = live;
    turnOn.disabled = studio.camera === "opening";
    setText(offWords, studio.camera === "opening" ? "Opening your camera…" : "Your camera is off");
    switches.hidden = !live;
    off.classList.toggle("under-switches", live);
    microphone.update();
    camera.update();
    devices.update();
    const last = ended(conversation, callId);
    const over = known.call?.status === "ended" || last === "call-ended";
    join.disabled = known.access === "unknown" || over;
    setText(join, last === undefined ? "Join" : "Join again");
    setText(heading, over ? "The call has ended" : last === undefined ? "Ready to join?" : "You are not in the call");
    setText(words, over ? REASONS["call-ended"] : lobbyWords(conversation, callId));
    setText(trouble, studio.trouble?.code === "camera" ? studio.trouble.detail : "");
  };
  const side = h("div", { class: "card lobby-side" }, heading, words, devices.element, meter.element, trouble, join);
  const element = h("section", { class: "stage lobby", "aria-label": "Before the call" }, h("div", { class: "picture" }, video, off, switches), side);
  fill(off, icon("camera-off"), offWords, turnOn);
  return { element, update };
}

/** @param {import("../conversation.js").Conversation} conversation @param {string} callId */
function ended({ client, callId: last }, callId) {
  return last === callId && client?.state === "ended" ? client.reason : undefined;
}

/** @param {import("../conversation.js").Conversation} conversation @param {string} callId */
function lobbyWords(conversation, callId) {
  const reason = ended(conversation, callId);
  if (reason !== undefined) return REASONS[reason] ?? `You are not in the call: ${conversation.client?.detail || reason}.`;
  return "Others see and hear you only once you have joined.";
}
