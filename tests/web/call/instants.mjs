/** When a file beeps and flashes, in milliseconds of its own time; as FFmpeg decodes it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const OUTPUT_MAX_BYTES = 256 << 20;
/** Above this a picture is white (luma 16…235), and sound is a beep (dBFS; the tone is at -9). */
const WHITE = 125;
const LOUD = -30;
/** What comes again within this belongs to what was there: a tone that dies away may cross the threshold once more. */
const SAME_MS = 100;
/** 2.5 ms of sound at a time. */
const SAMPLES = 120;

/** @param {string} file @param {number} [stream] which of its pictures */
export function flashes(file, stream = 0) {
  return rises(file, "-vf", "signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-", ["-map", `0:v:${stream}`], WHITE);
}

/** Its pictures, or the first after a jump to a time: when each is shown, in milliseconds, and its fingerprint. @param {string} file @param {number} [from] */
export async function pictures(file, from) {
  const input = from === undefined ? ["-i", file] : ["-ss", `${from - (await beginning(file))}ms`, "-i", file, "-frames:v", "1"];
  const args = ["-nostdin", "-v", "error", "-copyts", ...input, "-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-f", "framemd5", "-"];
  const { stdout } = await run("ffmpeg", args, { maxBuffer: OUTPUT_MAX_BYTES });
  const rows = stdout.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => line.split(/,\s*/));
  return rows.map(([, , at, , , fingerprint]) => /** @type {[number, string]} */ ([Number(at), fingerprint]));
}

/** When a file's first medium begins, in milliseconds: jumps are counted from there. @param {string} file */
async function beginning(file) {
  const { stdout } = await run("ffprobe", ["-v", "error", "-show_entries", "format=start_time", "-of", "csv=p=0", file]);
  return Math.round(Number(stdout) * 1_000);
}

/** @param {string} file @param {number} [stream] which of its sounds */
export function beeps(file, stream = 0) {
  const level = `aresample=48000,asetnsamples=n=${SAMPLES}:p=0,astats=metadata=1:reset=1,ametadata=print:key=lavfi.astats.Overall.RMS_level:file=-`;
  return rises(file, "-af", level, ["-map", `0:a:${stream}`], LOUD);
}

/**
 * When the value crosses the threshold upwards.
 * @param {string} file @param {string} option @param {string} filter @param {string[]} more @param {number} threshold
 */
async function rises(file, option, filter, more, threshold) {
  const args = ["-nostdin", "-v", "error", "-copyts", "-i", file, ...more, option, filter, "-fps_mode", "passthrough", "-f", "null", "-"];
  const { stdout } = await run("ffmpeg", args, { maxBuffer: OUTPUT_MAX_BYTES });
  /** @type {number[]} */
  const found = [];
  let [at, highAt] = [0, Number.NEGATIVE_INFINITY];
  for (const line of stdout.split("\n")) {
    const time = /pts_time:(\S+)/.exec(line);
    const value = /=(\S+)$/.exec(line);
    if (time !== null) at = Number(time[1]) * 1_000;
    else if (value !== null) {
      if (Number(value[1].replace("-inf", "-200")) <= threshold) continue;
      if (at - highAt > SAME_MS) found.push(at);
      highAt = at;
    }
  }
  return found;
}
