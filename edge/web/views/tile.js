/**
 * @file One picture of the grid: a person's camera, or their screen.
 */
import { fill, h, icon, setText } from "../dom.js";

/**
 * @typedef {object} Facts
 * @property {string} key Stays the same for the same picture.
 * @property {string} userId
 * @property {string} name
 * @property {"person" | "screen" | "self"} kind
 * @property {MediaStreamTrack | undefined} track
 * @property {"muted" | "heard"} voice
 * @property {"speaking" | "silent"} speech
 */

/** How long a tile keeps its size before that is told: a window that is dragged changes it with every frame. */
const SETTLED_MS = 300;

/**
 * @param {Facts} first
 * @param {(size: { width: number, height: number }) => void} sized Told the tile's size in pixels of the device, when it has changed.
 */
export function tile(first, sized) {
  const video = h("video", { playsinline: true, autoplay: true, "aria-hidden": "true" });
  video.muted = true; // voices are played elsewhere, so that they go on when this is not shown
  const face = h("span", { class: "face", text: initials(first.name) });
  face.style.setProperty("--hue", String(hue(first.userId)));
  const name = h("span", { class: "tile-name" });
  const muted = h("span", { class: "tile-muted", title: "Muted" }, icon("microphone-off"));
  const element = h("li", { class: `tile ${first.kind}`, "data-testid": "tile", "data-user-id": first.userId, "data-kind": first.kind });
  fill(element, h("div", { class: "tile-blank", "aria-hidden": "true" }, face), video, h("div", { class: "tile-label", "aria-hidden": "true" }, muted, name));
  /** @type {MediaStreamTrack | undefined} */ let shown;

  const update = (/** @type {Facts} */ facts) => {
    if (facts.track !== shown) {
      shown = facts.track;
      video.srcObject = shown === undefined ? null : new MediaStream([shown]);
    }
    video.hidden = shown === undefined;
    muted.hidden = facts.voice === "heard" || facts.kind === "screen";
    setText(name, words(facts));
    element.dataset.muted = facts.voice === "muted" ? "yes" : "no";
    element.classList.toggle("speaking", facts.speech === "speaking");
    const label = [words(facts), !muted.hidden && "muted", shown === undefined && "camera off", facts.speech === "speaking" && "speaking"];
    element.setAttribute("aria-label", label.filter(Boolean).join(", "));
  };
  update(first);
  const stop = watchSize(element, sized);
  return { element, update, stop };
}

/**
 * @param {HTMLElement} element
 * @param {Parameters<typeof tile>[1]} sized
 * @returns {() => void} Ends it.
 */
function watchSize(element, sized) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let settling;
  let told = "";
  const observer = new ResizeObserver((entries) => {
    const { width = 0, height = 0 } = entries.at(-1)?.contentRect ?? {};
    const size = { width: Math.round(width * devicePixelRatio), height: Math.round(height * devicePixelRatio) };
    clearTimeout(settling);
    settling = setTimeout(() => {
      const now = `${size.width}x${size.height}`;
      if (now !== told) sized(size);
      told = now;
    }, SETTLED_MS);
  });
  observer.observe(element);
  return () => {
    clearTimeout(settling);
    observer.disconnect();
  };
}

/** @param {Facts} facts */
function words({ kind, name }) {
  return { person: name, screen: `${name} · screen`, self: "You" }[kind];
}

/** @param {string} name @returns {string} Ada Lovelace: AL */
function initials(name) {
  const parts = name.split(/[\s._:@-]+/).filter((part) => part !== "");
  return [parts[0], parts.length > 1 ? parts.at(-1) : undefined].map((part) => [...(part ?? "")][0] ?? "").join("").toUpperCase() || "?";
}

/** The same colour for the same person everywhere. @param {string} userId */
function hue(userId) {
  return [...userId].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360, 7);
}
