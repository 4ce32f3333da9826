/**
 * @file One run of a MediaRecorder: from `start` to `stop`, blobs with the time at which their media began.
 *
 * Must not know storage or network. What it hides: which container a browser can write, and that events differ.
 */

/**
 * Containers in order of preference. VP8 first: both Chromium and Firefox write it, at a third of VP9's CPU. avc3 before
 * avc1, because Chromium's avc1 is corrupt after the picture changes its size. Safari writes MP4 only.
 */
export const VIDEO_MIME_TYPES = [
  "video/webm;codecs=vp8,opus",
  "video/webm;codecs=vp9,opus",
  "video/webm",
  "video/mp4;codecs=avc3.42E01E,mp4a.40.2",
  "video/mp4;codecs=avc1.42E01E,mp4a.40.2",
  "video/mp4",
];
/** The same for a stream without video. */
export const AUDIO_MIME_TYPES = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

/** One blob a second: what a crash of the tab can cost. */
export const TIMESLICE_MS = 1000;
/** A keyframe a second, where the browser obeys (Chromium): bounds the picture that a lost chunk costs. */
export const KEYFRAME_INTERVAL_MS = 1000;

/**
 * @typedef {{ blob: Blob, timestampMs: number, mimeType: string }} Captured
 * @typedef {{ captured(piece: Captured): void, ended(reason: "stopped" | "capture-ended" | "capture-failed", detail: string): void }} SessionListener
 */

export class CaptureSession {
  /** @type {MediaRecorder} */ #recorder;
  /** @type {SessionListener} */ #listener;
  /**
   * Epoch and monotonic clock at the call of `MediaRecorder.start()`: there the media begins (measured: 14 ms after it in
   * Firefox, 41 ms in Chromium), while the `start` event of a busy Chromium comes up to 500 ms late. Two clocks, because
   * the epoch may be set while recording.
   */
  #startEpochMs = 0;
  #startMs = 0;
  #endMs = 0;
  /** When the blob before ended, thus this one began. */
  #previousMs = 0;
  /** @type {"stopped" | "capture-ended" | "capture-failed"} */ #reason = "capture-ended";
  #detail = "the camera or microphone is gone";

  /**
   * @param {MediaStream} stream
   * @param {{ mimeTypes?: string[], videoBitsPerSecond?: number, audioBitsPerSecond?: number }} options
   * @param {SessionListener} listener
   */
  constructor(stream, { mimeTypes, ...bitrates }, listener) {
    const wanted = mimeTypes ?? (stream.getVideoTracks().length > 0 ? VIDEO_MIME_TYPES : AUDIO_MIME_TYPES);
    const settings = { mimeType: chooseMimeType(wanted), videoKeyFrameIntervalDuration: KEYFRAME_INTERVAL_MS };
    this.#recorder = new MediaRecorder(stream, { ...bitrates, ...settings });
    this.#listener = listener;
  }

  /** Media so far, in milliseconds. */
  get elapsedMs() {
    if (this.#startMs === 0) return 0;
    return (this.#endMs === 0 ? performance.now() : this.#endMs) - this.#startMs;
  }

  /** Resolves when the browser has begun to record. */
  async start() {
    const recorder = this.#recorder;
    recorder.addEventListener("dataavailable", (event) => this.#onData(event));
    recorder.addEventListener("error", (event) => this.#onError(event));
    recorder.addEventListener("stop", () => this.#onStop());
    const started = new Promise((resolve) => recorder.addEventListener("start", resolve, { once: true }));
    this.#startEpochMs = Date.now();
    this.#startMs = this.#previousMs = performance.now();
    recorder.start(TIMESLICE_MS);
    await started;
  }

  /** Resolves after the last blob was handed over. */
  async stop() {
    if (this.#recorder.state === "inactive") return;
    this.#reason = "stopped";
    this.#detail = "";
    const stopped = new Promise((resolve) => this.#recorder.addEventListener("stop", resolve, { once: true }));
    this.#endMs = performance.now();
    this.#recorder.stop();
    await stopped;
  }

  /** Hands over what was recorded since the last blob, now: the page is about to be hidden or closed. */
  flush() {
    if (this.#recorder.state === "recording") this.#recorder.requestData();
  }

  /**
   * A blob's media began when the blob before it ended. `BlobEvent.timecode` would say so too, within 15 ms, but
   * Firefox does not have it.
   * @param {BlobEvent} event
   */
  #onData(event) {
    const timestampMs = this.#startEpochMs + (this.#previousMs - this.#startMs);
    this.#previousMs = Math.max(this.#previousMs, event.timeStamp);
    if (event.data.size === 0) return; // Safari and MP4 end with one: no media, so no sequence number either
    const mimeType = event.data.type || this.#recorder.mimeType;
    this.#listener.captured({ blob: event.data, timestampMs, mimeType });
  }

  /** @param {Event} event */
  #onError(event) {
    const error = /** @type {{ error?: DOMException }} */ (event).error;
    this.#reason = "capture-failed";
    this.#detail = error?.message ?? "the browser could not go on recording";
  }

  #onStop() {
    if (this.#endMs === 0) this.#endMs = performance.now();
    this.#listener.ended(this.#reason, this.#detail);
  }
}

/**
 * @param {string[]} wanted
 * @returns {string} The first that this browser can write; "" lets the browser choose.
 */
export function chooseMimeType(wanted) {
  return wanted.find((mimeType) => MediaRecorder.isTypeSupported(mimeType)) ?? "";
}
