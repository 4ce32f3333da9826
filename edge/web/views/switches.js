/**
 * @file Buttons that are on or off: an icon, what a press does, and the state for those who do not see the colour.
 */
import { fill, h, icon } from "../dom.js";

/** @import { Switch } from "../studio.js" */
/** @typedef {Pick<import("../app.js").App, "conversation" | "studio">} Devices */

/**
 * @param {string} name Of the icon; `name-off` is shown when it is off and there is one.
 * @param {string} testId
 * @param {() => unknown} onclick
 * @param {string} [offIcon]
 */
export function toggle(name, testId, onclick, offIcon = name) {
  const element = h("button", { type: "button", class: `bar-button bar-${name}`, "data-testid": testId, onclick });
  let shown = "";
  const show = (/** @type {Switch} */ state, /** @type {string} */ text) => {
    if (shown === state + text) return;
    shown = state + text;
    element.dataset.state = state;
    fill(element, icon(state === "on" ? name : offIcon), h("span", { text }));
  };
  return { element, show };
}

/** @param {Devices} devices */
export function microphoneButton({ conversation, studio }) {
  const { element, show } = toggle("microphone", "toggle-microphone", () => conversation.toggleMicrophone(), "microphone-off");
  return { element, update: () => show(studio.shown.microphone, studio.shown.microphone === "on" ? "Mute" : "Unmute") };
}

/** @param {Devices} devices */
export function cameraButton({ conversation, studio }) {
  const { element, show } = toggle("camera", "toggle-camera", () => conversation.toggleCamera(), "camera-off");
  return { element, update: () => show(studio.shown.camera, studio.shown.camera === "on" ? "Camera off" : "Camera on") };
}
