/**
 * What the pages of tests send: their devices, pictures and sounds of known instants of the wall clock, or what no encoder makes small.
 */

/** @param {import("./page.js").Wish["media"]} kind */
export function media(kind) {
  if (kind === "none") return new MediaStream();
  if (kind === "noise") return noise();
  if (kind === "beeps") return beeps("flashes", CAMERA);
  if (kind === "flashes") return spoken(flashes("flashes", CAMERA));
  const video = kind === "layers" ? { width: 960, height: 540, frameRate: 15 } : { width: 320, height: 240, frameRate: 15 };
  return navigator.mediaDevices.getUserMedia({ audio: true, video });
}

/** Sound, and two pictures that no encoder makes small. */
async function noise() {
  const [sound] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
  return new MediaStream([sound, ...[0, 1].map(() => flicker())]);
}

function flicker() {
  const [width, height] = [640, 360];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  setInterval(() => {
    for (let at = 0; at < 2_000; at++) {
      paint.fillStyle = `hsl(${Math.random() * 360} 90% ${Math.random() * 100}%)`;
      paint.fillRect(Math.random() * width, Math.random() * height, 12, 12);
    }
  }, 66);
  return canvas.captureStream(15).getVideoTracks()[0];
}

/** Sizes of the pages' own pictures. */
const CAMERA = { width: 160, height: 120 };
export const SCREEN = { width: 320, height: 180 };
/** Every so often, by the wall clock, the page flashes and beeps. */
const PERIOD_MS = 2_000;
/** How long each time. */
const LASTS_MS = 200;
/** How far ahead beeps are put on the sound card's clock. */
const AHEAD_MS = 1_000;

/** Gives pictures the sound of the device: where there is no sound card, Firefox makes none itself. @param {MediaStream} pictures */
async function spoken(pictures) {
  const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
  return new MediaStream([...pictures.getTracks(), ...sound.getTracks()]);
}

/**
 * White pictures and a tone of 1 kHz for `LASTS_MS` at every whole `PERIOD_MS` of the wall clock.
 * @param {"flashes" | "screenFlashes"} notes where to note when it flashed; kept over loads of the page
 * @param {{ width: number, height: number }} size
 */
export function beeps(notes, size) {
  const stream = flashes(notes, size);
  stream.addTrack(tone());
  return stream;
}

const wall = () => performance.timeOrigin + performance.now();

/** The pictures alone. @param {"flashes" | "screenFlashes"} notes @param {{ width: number, height: number }} size */
function flashes(notes, size) {
  const noted = (window[notes] = JSON.parse(sessionStorage.getItem(notes) ?? "[]"));
  const canvas = Object.assign(document.createElement("canvas"), size);
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  document.body.append(canvas);
  // Pictures are taken when they are drawn, and not some time after.
  const stream = canvas.captureStream(0);
  const [picture] = stream.getTracks();
  const camera = /** @type {any} */ ("requestFrame" in picture ? picture : stream); // Firefox asks the stream.
  let lit = false;
  let count = 0;
  const draw = () => {
    const on = wall() % PERIOD_MS < LASTS_MS;
    if (on !== lit || count % 2 === 0) camera.requestFrame();
    if (on !== lit && (lit = on)) {
      noted.push(wall());
      sessionStorage.setItem(notes, JSON.stringify(noted));
    }
    paint.fillStyle = on ? "#fff" : "#000";
    paint.fillRect(0, 0, canvas.width, canvas.height);
    // Something that changes, or no picture is taken.
    paint.fillStyle = "#888";
    paint.fillRect(count++ % canvas.width, 0, 4, 4);
    if (picture.readyState === "live") requestAnimationFrame(draw);
  };
  draw();
  return stream;
}

function tone() {
  const context = new AudioContext({ latencyHint: "interactive" });
  const oscillator = new OscillatorNode(context, { frequency: 1_000 });
  const gain = new GainNode(context, { gain: 0 });
  const out = context.createMediaStreamDestination();
  oscillator.connect(gain).connect(out);
  oscillator.start();
  void context.resume();
  // The context's clock stands at the last block that was made: the smallest difference to the wall is the truest.
  let [behind, next] = [Number.POSITIVE_INFINITY, 0];
  const look = () => {
    if (context.currentTime === 0) return;
    behind = Math.min(behind + 0.01, wall() - context.currentTime * 1_000);
    if (next === 0) next = Math.ceil(wall() / PERIOD_MS + 0.1) * PERIOD_MS;
    while (next < wall() + AHEAD_MS) {
      gain.gain.setValueAtTime(0.5, (next - behind) / 1_000);
      gain.gain.setValueAtTime(0, (next + LASTS_MS - behind) / 1_000);
      next += PERIOD_MS;
    }
  };
  setInterval(look, 5);
  return /** @type {MediaStreamTrack} */ (out.stream.getAudioTracks()[0]);
}
