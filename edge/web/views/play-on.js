/**
 * @file Plays on behind a gap. Pictures behind a gap may refer to lost ones, and Chromium ends playback at the first such
 * picture of VP9, AV1 or Firefox's VP8. The file is loaded again there, and playback goes on from the next picture that
 * decodes: seeking lands on the keyframe before the wanted time, so a time before the next keyframe fails once more.
 */

/** How much later each attempt begins than the one before, in seconds: what is skipped too much at most. */
const STEP_S = 0.5;
/** The most that is skipped without a picture, in seconds: browsers send a keyframe at least every 7.5 s. */
const SKIPPED_MAX_S = 20;
/** A gap that begins no later than this after the player's time is the one that ended it: decoders run ahead. */
const AHEAD_S = 1;

/** @typedef {{ fromS: number, toS: number }} Span A gap, in seconds of the file. */

/**
 * @param {HTMLVideoElement} video
 * @param {Span[]} gaps
 * @param {{ skipped: () => void, failed: () => void }} tell `skipped`: pictures were left out; `failed`: it does not play.
 * @param {AbortSignal} signal Ends it.
 */
export function playOn(video, gaps, tell, signal) {
  /** Where the search for a picture began; none while pictures come. @type {number | undefined} */
  let fromS;
  /** Where the search is. */
  let atS = 0;
  /** Whether it is to play. An error ends `paused === false`, too, but without the event. */
  let plays = !video.paused;
  const onerror = () => {
    if (gaps.length === 0 || !isUndecodable(video.error)) return tell.failed();
    fromS ??= atS = behindGap(video.currentTime, gaps);
    atS += STEP_S;
    if (atS - fromS > SKIPPED_MAX_S) return tell.failed();
    tell.skipped();
    reload(video, atS, plays);
  };
  const found = () => (fromS = undefined);
  video.addEventListener("error", onerror, { signal });
  video.addEventListener("play", () => (plays = true), { signal });
  video.addEventListener("pause", () => (plays = false), { signal });
  video.addEventListener("seeked", found, { signal }); // a picture of that time is shown
}

/** @param {MediaError | null} error */
function isUndecodable(error) {
  return error?.code === MediaError.MEDIA_ERR_DECODE || /demuxer seek failed/i.test(error?.message ?? "");
}

/**
 * The later of a time and the end of the gap that it is in, or soon will be.
 * @param {number} timeS
 * @param {Span[]} gaps
 */
function behindGap(timeS, gaps) {
  return Math.max(timeS, ...gaps.filter(({ fromS }) => fromS <= timeS + AHEAD_S).map(({ toS }) => toS));
}

/**
 * Loads the file anew, to begin at a time. It is paused until the time is set: Chromium then decodes nothing at the
 * start, whose failure would be told in place of the one at `atS`, whenever it comes before the seek.
 * @param {HTMLVideoElement} video
 * @param {number} atS
 * @param {boolean} plays
 */
function reload(video, atS, plays) {
  const begin = () => {
    video.currentTime = atS;
    if (plays) void video.play().catch(() => {}); // its failure is an "error" event of its own
  };
  video.pause();
  video.load(); // what pausing would have told is dropped with the rest of the old file's events
  video.addEventListener("loadedmetadata", begin, { once: true });
}
