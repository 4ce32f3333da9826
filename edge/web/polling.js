/**
 * @file Asking again and again without asking too much: every second while something moves, seldom otherwise.
 */

/** While a recording is being finished or processed: its progress should be seen to move. */
export const BUSY_POLL_MS = 1_000;
/** While one is being recorded: control routes allow 100 requests a minute, and other pages want some. */
export const LIVE_POLL_MS = 3_000;
/** When nothing moves, only another person can change something. */
export const CALM_POLL_MS = 15_000;
/** After errors the pause doubles up to this. */
export const FAILED_POLL_MAX_MS = 30_000;

/**
 * Calls `ask` until `signal` aborts; pauses while the tab is hidden.
 * @param {(signal: AbortSignal) => Promise<number>} ask Resolves with the milliseconds until the next time.
 * @param {(cause: unknown) => void} failed
 * @param {AbortSignal} signal
 * @returns {() => void} Asks now.
 */
export function poll(ask, failed, signal) {
  let failures = 0;
  let asking = false;
  let again = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const now = async () => {
    clearTimeout(timer);
    if (signal.aborted || document.hidden) return;
    if (asking) return void (again = true);
    asking = true;
    let pause = CALM_POLL_MS;
    try {
      pause = await ask(signal);
      failures = 0;
    } catch (cause) {
      failures += 1;
      pause = Math.min(FAILED_POLL_MAX_MS, BUSY_POLL_MS * 2 ** failures);
      if (!signal.aborted) failed(cause);
    }
    asking = false;
    if (signal.aborted) return;
    if (again) pause = 0;
    again = false;
    timer = setTimeout(now, pause);
  };
  document.addEventListener("visibilitychange", now, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  void now();
  return () => void now();
}

/** @param {import("./api.js").Recording[]} recordings @returns {number} Milliseconds until the next question. */
export function pauseFor(recordings) {
  const states = new Set(recordings.map((recording) => recording.status));
  if (states.has("processing") || states.has("stopping")) return BUSY_POLL_MS;
  return states.has("recording") || states.has("paused") ? LIVE_POLL_MS : CALM_POLL_MS;
}
