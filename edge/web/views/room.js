/**
 * @file Inside a call: everybody's picture, and the bar of buttons below it.
 */
import { ApiError } from "../api.js";
import { fill, h, icon, setText } from "../dom.js";
import { grid } from "./grid.js";
import { cameraButton, microphoneButton, toggle } from "./switches.js";

/** @import { Known } from "./call.js" */

/**
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {Known} known
 * @param {{ hosts: () => boolean, changed: () => void }} call `changed`: its recordings have.
 */
export function roomView(app, callId, known, call) {
  const { conversation, studio } = app;
  const pictures = grid(app);
  const words = h("p", { class: "room-words", role: "status", "data-testid": "call-state" });
  const microphone = microphoneButton(app);
  const camera = cameraButton(app);
  const screen = toggle("screen", "toggle-screen", () => conversation.toggleScreen());
  const record = recordButton(app, callId, known, call);
  const pause = pauseButton(app, callId, record.error, call);
  const leave = h("button", { type: "button", class: "bar-button leave", "data-testid": "leave", onclick: () => conversation.leave() }, icon("leave"), h("span", { text: "Leave" }));
  screen.element.hidden = navigator.mediaDevices?.getDisplayMedia === undefined;
  const bar = h("div", { class: "bar", role: "toolbar", "aria-label": "Call controls" }, microphone.element, camera.element, screen.element, record.element, pause.element, leave);
  const element = h("section", { class: "room", "aria-label": "Call" }, words, pictures.element, record.error, bar);

  const update = () => {
    if (!conversation.in(callId)) return;
    const { state, path } = conversation.client ?? { state: "idle", path: "none" };
    element.dataset.state = words.dataset.state = state;
    setText(words, stateWords(state, path, conversation.people.length));
    words.classList.toggle("troubled", state === "reconnecting" || path === "broken");
    microphone.update();
    camera.update();
    camera.element.disabled = studio.busy && !studio.stream?.getVideoTracks().length; // a recording has only sound
    screen.show(conversation.screen === undefined ? "off" : "on", conversation.screen === undefined ? "Share" : "Stop sharing");
    record.update();
    pause.update();
    pictures.update();
  };
  return { element, update };
}

/**
 * Recording on the server is the host's.
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {Known} known
 * @param {{ hosts: () => boolean, changed: () => void }} call
 */
function recordButton({ api, conversation, studio }, callId, known, { hosts, changed }) {
  const error = h("p", { class: "form-error", role: "alert" });
  /** @type {"start" | "stop" | undefined} */ let asked;
  const { element, show } = toggle("record", "record-call", () => ask());
  const recorded = () => conversation.client?.recording !== undefined;
  /** This browser's own recording must send its rest before the server is asked to stop. */
  const stop = async () => (studio.take?.callId === callId && studio.state === "recording" ? studio.stop() : api.stopRecording(callId));
  const ask = async () => {
    asked = recorded() ? "stop" : "start";
    setText(error, "");
    update();
    try {
      await (asked === "stop" ? stop() : api.startRecording(callId));
    } catch (cause) {
      setText(error, cause instanceof ApiError ? cause.detail : "The server did not answer.");
    }
    asked = undefined;
    update();
    changed();
  };
  const update = () => {
    element.hidden = !hosts();
    element.disabled = known.call === undefined || asked !== undefined;
    const on = recorded();
    show(on ? "on" : "off", asked === "start" ? "Starting…" : asked === "stop" ? "Stopping…" : on ? "Stop recording" : "Record the call");
  };
  return { element, error, update };
}

/**
 * What is said while a recording is paused is in no file.
 * @param {import("../app.js").App} app
 * @param {string} callId
 * @param {Element} error
 * @param {{ hosts: () => boolean, changed: () => void }} call
 */
function pauseButton({ api, conversation }, callId, error, { hosts, changed }) {
  let asked = false;
  const { element, show } = toggle("pause", "pause-recording", () => ask());
  const paused = () => conversation.client?.recordingPaused === true;
  const ask = async () => {
    asked = true;
    setText(error, "");
    update();
    try {
      await (paused() ? api.resumeRecording(callId) : api.pauseRecording(callId));
    } catch (cause) {
      setText(error, cause instanceof ApiError ? cause.detail : "The server did not answer.");
    }
    asked = false;
    update();
    changed();
  };
  const update = () => {
    element.hidden = !hosts() || conversation.client?.recording === undefined;
    element.disabled = asked;
    show(paused() ? "on" : "off", paused() ? "Resume recording" : "Pause recording");
  };
  return { element, update };
}

/** @param {import("../call.js").CallState} state @param {import("../call.js").CallClient["path"]} path @param {number} others */
function stateWords(state, path, others) {
  if (state === "joining") return "Joining…";
  if (state === "reconnecting") return "The connection was lost. Coming back…";
  if (path === "broken") return "Sound and picture are interrupted. Looking for another way…";
  if (others === 0) return "Nobody else is here yet. Send them the link.";
  return `${others + 1} people in the call`;
}

/**
 * Told to everybody in a call that is recorded.
 * @param {import("../app.js").App} app
 * @param {string} callId
 */
export function recordingBanner({ conversation }, callId) {
  const words = h("span");
  const element = h("div", { class: "recorded", role: "status", "data-testid": "recording-banner" });
  const update = () => {
    const on = conversation.in(callId) && conversation.client?.recording !== undefined;
    const paused = on && conversation.client?.recordingPaused === true;
    element.hidden = !on;
    element.classList.toggle("paused", paused);
    setText(words, paused ? "The recording is paused." : on ? "This call is being recorded." : "");
    if (on === (words.parentNode !== null)) return;
    fill(element, on && h("span", { class: "dot", "aria-hidden": "true" }), on && words);
    if (!on) words.remove();
  };
  update();
  return { element, update };
}
