/**
 * @file How loud the microphone is: a bar, and in words for those who do not see it.
 */
import { h } from "../dom.js";

/** Quietest level that the bar shows; a silent room is about here. */
const FLOOR_DB = -60;
/** How often the spoken value changes at most. */
const SPOKEN_MS = 1000;

/** @param {AbortSignal} signal */
export function levelMeter(signal) {
  const bar = h("span", { class: "meter-bar" });
  const element = h("div", { class: "meter", role: "meter", "aria-label": "Microphone level", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, bar);
  /** @type {AudioContext | undefined} */ let context;
  /** @type {MediaStream | undefined} */ let heard;
  let spokenAt = 0;

  const listen = (/** @type {MediaStream | undefined} */ stream) => {
    if (stream === heard) return;
    heard = stream;
    void context?.close();
    context = undefined;
    bar.style.transform = "scaleX(0)";
    if (stream === undefined || stream.getAudioTracks().length === 0) return;
    context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    context.createMediaStreamSource(stream).connect(analyser);
    draw(context, analyser, new Float32Array(analyser.fftSize));
  };
  const draw = (/** @type {AudioContext} */ mine, /** @type {AnalyserNode} */ analyser, /** @type {Float32Array<ArrayBuffer>} */ samples) => {
    if (mine !== context || signal.aborted) return;
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const level = Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-9)) / FLOOR_DB));
    bar.style.transform = `scaleX(${level.toFixed(3)})`;
    if (performance.now() - spokenAt > SPOKEN_MS) {
      spokenAt = performance.now();
      element.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    }
    requestAnimationFrame(() => draw(mine, analyser, samples));
  };
  signal.addEventListener("abort", () => listen(undefined));
  return { element, listen };
}
