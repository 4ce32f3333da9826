/**
 * @file Choosing camera and microphone. Devices have names only after the person has allowed one.
 */
import { fill, h } from "../dom.js";
import { field } from "./sign-in.js";

/**
 * @param {import("../studio.js").Studio} studio
 * @param {AbortSignal} signal
 */
export function deviceChoice(studio, signal) {
  const camera = h("select", { id: "camera", "data-testid": "camera" });
  const microphone = h("select", { id: "microphone", "data-testid": "microphone" });
  const choose = () => {
    studio.devices = { camera: camera.value, microphone: microphone.value };
    if (studio.camera === "live") studio.openCamera().catch(() => {}); // told by studio.trouble
  };
  camera.addEventListener("change", choose);
  microphone.addEventListener("change", choose);

  const list = async () => show((await navigator.mediaDevices?.enumerateDevices()) ?? []);
  const show = (/** @type {MediaDeviceInfo[]} */ found) => {
    const cameras = found.filter((device) => device.kind === "videoinput");
    options(camera, "Default camera", cameras, studio.devices.camera, h("option", { value: "none", text: "No camera (sound only)" }));
    options(microphone, "Default microphone", found.filter((device) => device.kind === "audioinput"), studio.devices.microphone);
  };
  let before = studio.camera;
  const update = () => {
    camera.disabled = microphone.disabled = studio.busy;
    if (before !== studio.camera) void list();
    before = studio.camera;
  };
  navigator.mediaDevices?.addEventListener("devicechange", list, { signal });
  show([]);
  void list();
  return { element: h("div", { class: "fields two" }, field("Camera", camera), field("Microphone", microphone)), update };
}

/**
 * @param {HTMLSelectElement} select
 * @param {string} standard
 * @param {MediaDeviceInfo[]} devices
 * @param {string} chosen
 * @param {HTMLOptionElement} [extra]
 */
function options(select, standard, devices, chosen, extra) {
  const named = devices.filter((device) => device.deviceId !== "" && device.deviceId !== "default");
  const list = named.map((device, index) => h("option", { value: device.deviceId, text: device.label || `Device ${index + 1}` }));
  fill(select, h("option", { value: "", text: standard }), ...list, extra);
  select.value = chosen;
  if (select.selectedIndex === -1) select.value = "";
}
