/**
 * @file The one recording that this tab makes: camera, recorder, and the order of its steps with the API.
 *
 * Lives beside the views, so that leaving a page does not end a recording. Must not know elements. Order when stopping:
 * recorder stopped -> everything uploaded -> track complete -> the recording is stopped. If the host stopped it
 * elsewhere, the chunks still go during the finishing time: while recording, the studio itself asks for that, because
 * views come and go and pause in a hidden tab.
 */
import { ApiError, isLive } from "./api.js";
import { Ending, isOver } from "./ending.js";
import { Recorder } from "./recorder.js";
import { DEFAULT_POLICY } from "./retry.js";

/** @import { Api } from "./api.js" */
/** @import { Take } from "./ending.js" */
/** @import { Progress, StateEvent } from "./recorder-support.js" */
/** @import { RetryPolicy } from "./retry.js" */

/** How often a recording tab asks whether it is still wanted: 12 of the 100 control requests a minute. */
export const WATCH_MS = 5_000;

/** Picture asked of the camera: the recording's own default size and rate. */
const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

/**
 * @typedef {"off" | "opening" | "live"} CameraState
 * @typedef {"on" | "off"} Switch
 * @typedef {"started" | "joined"} Origin Whether this tab began the recording, or found it live.
 * @typedef {"idle" | "starting" | "recording" | "interrupted" | "finishing" | "finished"} StudioState
 */

export class Studio extends EventTarget {
  /** @type {CameraState} */ camera = "off";
  /** @type {StudioState} */ state = "idle";
  /** @type {MediaStream | undefined} */ stream;
  /** @type {Take | undefined} */ take;
  /** What went wrong last, for people. @type {{ code: string, detail: string, requestId?: string } | undefined} */ trouble;
  /** "" is the default device; "none" leaves the camera off. */
  devices = { camera: "", microphone: "" };
  /** Whether others see and hear this person. @type {{ camera: Switch, microphone: Switch }} */ shown = { camera: "on", microphone: "on" };
  /** @type {Recorder | undefined} */ #recorder;
  /** @type {Api} */ #api;
  /** @type {import("./chunk-routes.js").TokenSource} */ #token;
  /** @type {Ending} */ #ending;
  /** @type {{ retry: RetryPolicy, watchMs: number }} */ #pace;
  /** @type {Promise<void> | undefined} */ #stopping;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watching;

  /**
   * @param {Api} api
   * @param {import("./chunk-routes.js").TokenSource} token
   * @param {{ retry?: RetryPolicy, watchMs?: number }} [pace]
   */
  constructor(api, token, { retry = DEFAULT_POLICY, watchMs = WATCH_MS } = {}) {
    super();
    this.#api = api;
    this.#token = token;
    this.#pace = { retry, watchMs };
    this.#ending = new Ending(api, retry, (error) => this.#set({ trouble: error && readable(error) }));
  }

  /** @returns {Progress | undefined} */
  get progress() {
    return this.#recorder?.progress;
  }

  /** @returns {StateEvent | undefined} */
  get status() {
    return this.#recorder?.status;
  }

  /** A recording is being made or finished: devices stay, and no other may begin. */
  get busy() {
    return !["idle", "finished"].includes(this.state);
  }

  /** Opens the chosen camera and microphone; again after a choice has changed. */
  async openCamera() {
    this.#set({ camera: "opening", trouble: undefined });
    try {
      this.#endStream();
      this.stream = await navigator.mediaDevices.getUserMedia(this.#constraints());
      for (const track of this.stream.getAudioTracks()) track.enabled = this.shown.microphone === "on";
      this.#set({ camera: "live" });
    } catch (cause) {
      this.#set({ camera: "off", trouble: cameraTrouble(cause) });
      throw cause;
    }
  }

  closeCamera() {
    this.#endStream();
    this.#set({ camera: "off" });
  }

  /** The track is kept: unmuting must not take as long as opening a device. @param {Switch} wanted */
  switchMicrophone(wanted) {
    this.shown.microphone = wanted;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = wanted === "on";
    this.#changed();
  }

  /**
   * Off, the camera's light goes out; but a recording that is made needs its track, which is only blacked out.
   * @param {Switch} wanted
   */
  async switchCamera(wanted) {
    this.shown.camera = wanted;
    const [track] = this.stream?.getVideoTracks() ?? [];
    if (track !== undefined && this.busy) track.enabled = wanted === "on";
    else if (this.camera === "live" && (wanted === "on") !== (track !== undefined)) await this.#changePicture(track);
    this.#changed();
  }

  /** The picture that others may see. */
  get picture() {
    return this.shown.camera === "on" ? this.stream?.getVideoTracks().find(({ enabled }) => enabled) : undefined;
  }

  get sound() {
    return this.stream?.getAudioTracks()[0];
  }

  /** Takes the picture's track out of the stream, or brings one in. @param {MediaStreamTrack | undefined} track */
  async #changePicture(track) {
    if (track !== undefined) {
      track.stop();
      return this.stream?.removeTrack(track);
    }
    if (this.devices.camera === "none") this.devices = { ...this.devices, camera: "" };
    try {
      const { video } = this.#constraints();
      const opened = await navigator.mediaDevices.getUserMedia({ video });
      for (const fresh of opened.getTracks()) this.stream?.addTrack(fresh);
    } catch (cause) {
      this.shown.camera = "off";
      this.#set({ trouble: cameraTrouble(cause) });
    }
  }

  /**
   * Starts the recording of a call, or joins the one that is live.
   * @param {{ callId: string, userId: string, host: boolean, liveRecordingId?: string }} where
   */
  async record({ callId, userId, host, liveRecordingId }) {
    this.#recorder = this.take = undefined; // a finished take is over
    this.#set({ state: "starting", trouble: undefined });
    /** @type {Origin} */ let origin = "joined";
    try {
      if (this.camera !== "live") await this.openCamera();
      const live = liveRecordingId === undefined ? await this.#startOrJoin(callId) : { recordingId: liveRecordingId, origin };
      origin = live.origin;
      this.take = { recordingId: live.recordingId, callId, userId, host };
      this.#ending.forget(this.take);
      await this.#open(this.stream?.getVideoTracks().length ? "video" : "audio");
      await this.#begin();
    } catch (cause) {
      await this.#startFailed(cause, origin);
    }
  }

  /**
   * Takes up what an earlier tab left: its chunks are uploaded at once; the person chooses to go on or to finish.
   * @param {Take} take
   * @param {"video" | "audio" | "screen"} kind
   * @param {"open" | "stopped"} left `stopped`: the person had pressed stop, so only the sending is left.
   */
  async recover(take, kind, left) {
    this.#recorder = undefined;
    this.take = take;
    try {
      await this.#open(kind);
      this.#set({ state: "interrupted" });
      if (left === "stopped") await this.stop();
    } catch (cause) {
      this.take = undefined;
      this.#set({ state: "idle", trouble: readable(cause) });
    }
  }

  /** Goes on recording after an interruption, under the same recording. */
  async goOn() {
    this.#set({ state: "starting", trouble: undefined });
    try {
      if (this.camera !== "live" || !this.stream?.active) await this.openCamera();
      await this.#begin();
    } catch (cause) {
      this.#set({ state: "interrupted", trouble: readable(cause) });
    }
  }

  /**
   * Goes on with a stop that an earlier tab asked for and nobody answered: all its media is on the server.
   * @param {Take} take
   */
  async resumeStop(take) {
    this.#recorder = undefined;
    this.take = take;
    await this.stop();
  }

  /** Stops and finishes; waits as long as the network is away. */
  stop() {
    this.#stopping ??= this.#finish().finally(() => (this.#stopping = undefined));
    return this.#stopping;
  }

  /** After trouble that stopped the uploads: tries again, and finishes if that was under way. */
  async retry() {
    this.#set({ trouble: undefined });
    this.#recorder?.retry();
    this.#ending.retry();
    if (this.state === "finishing") await this.stop();
  }

  /** Throws away what was not uploaded, and ends the recording on the server. */
  async discard() {
    const take = this.#taken;
    this.#ending.note(take);
    this.#set({ state: "finishing", trouble: undefined });
    await this.#recorder?.discard().catch((cause) => this.#set({ trouble: readable(cause) }));
    this.#recorder = undefined;
    await this.#end(take);
    this.take = undefined;
    this.#set({ state: "idle" });
  }

  get #taken() {
    if (this.take === undefined) throw new Error("no recording is open");
    return this.take;
  }

  async #finish() {
    const take = this.#taken;
    this.#ending.note(take); // from here on a reload finishes it
    this.#set({ state: "finishing", trouble: undefined });
    try {
      await this.#recorder?.stop();
      await this.#ending.end(take);
      this.#set({ state: "finished" });
    } catch (cause) {
      this.#set({ trouble: readable(cause) });
    }
  }

  /**
   * Ends the recording on the server without a recorder. A stop asked for meanwhile is this one.
   * @param {Take} take
   */
  #end(take) {
    const ended = this.#ending.end(take).catch((cause) => this.#set({ trouble: readable(cause) }));
    this.#stopping = ended.finally(() => (this.#stopping = undefined));
    return this.#stopping;
  }

  /** @param {"video" | "audio" | "screen"} kind */
  async #open(kind) {
    const { recordingId, callId, userId, host } = this.#taken;
    const labels = { callId, host: host ? "yes" : "no" };
    const { retry } = this.#pace;
    const recorder = await Recorder.open({ recordingId, participantId: userId, kind, token: this.#token, labels, retry });
    recorder.on("progress", () => this.#changed());
    recorder.on("state", (status) => this.#onState(status));
    recorder.on("error", (error) => this.#set({ trouble: error }));
    this.#recorder = recorder;
  }

  async #begin() {
    await this.#recorder?.start(/** @type {MediaStream} */ (this.stream));
    this.#set({ state: "recording" });
    this.#watch(this.#taken);
  }

  /**
   * While recording, learns that the host stopped it elsewhere or that its time ran out, and finishes. That the edge
   * cannot be asked just now is no news: the uploads tell it.
   * @param {Take} take
   */
  #watch(take) {
    const mine = () => this.state === "recording" && this.take === take;
    clearTimeout(this.#watching);
    this.#watching = setTimeout(async () => {
      const over = mine() && (await isOver(this.#api, take).catch(() => false));
      if (!mine()) return;
      if (over) await this.stop();
      else this.#watch(take);
    }, this.#pace.watchMs);
  }

  /**
   * @param {string} callId
   * @returns {Promise<{ recordingId: string, origin: Origin }>}
   */
  async #startOrJoin(callId) {
    try {
      return { recordingId: (await this.#api.startRecording(callId)).recordingId, origin: "started" };
    } catch (cause) {
      if (!(cause instanceof ApiError) || cause.code !== "recording-already-live") throw cause;
      const live = (await this.#api.recordings(callId)).find(({ status }) => isLive(status));
      if (live === undefined) throw cause;
      return { recordingId: live.id, origin: "joined" };
    }
  }

  /**
   * Nothing was recorded: a recording that was started for it must not stay live. The first error is the one to tell.
   * What an earlier tab left of the same track stays.
   * @param {unknown} cause
   * @param {Origin} origin
   */
  async #startFailed(cause, origin) {
    const { take } = this;
    const trouble = this.trouble ?? readable(cause);
    const recorder = this.#recorder;
    this.#recorder = undefined;
    await (recorder?.progress.recordedChunks === 0 ? recorder.discard() : recorder?.close())?.catch(() => {});
    if (origin === "started" && take !== undefined) {
      this.#set({ state: "finishing", trouble });
      await this.#end(take);
    }
    this.take = undefined;
    this.#set({ state: "idle", trouble });
  }

  /**
   * The session ended by itself: the camera is gone, the backlog is full, or the server refuses.
   * @param {StateEvent} status
   */
  #onState(status) {
    const interrupted = this.state === "recording" && status.state === "ready";
    this.#set(interrupted ? { state: "interrupted" } : {});
  }

  #constraints() {
    const exact = (/** @type {string} */ deviceId) => (deviceId === "" ? {} : { deviceId: { exact: deviceId } });
    const { camera, microphone } = this.devices;
    return { video: camera === "none" || this.shown.camera === "off" ? false : { ...PICTURE, ...exact(camera) }, audio: exact(microphone) };
  }

  #endStream() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = undefined;
  }

  /** @param {Partial<Pick<Studio, "camera" | "state" | "trouble">>} facts */
  #set(facts) {
    Object.assign(this, facts);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {unknown} cause */
function readable(cause) {
  if (cause instanceof ApiError) return { code: cause.code, detail: cause.detail, requestId: cause.requestId };
  return { code: "unexpected", detail: cause instanceof Error ? cause.message : String(cause) };
}

/** @param {unknown} cause */
function cameraTrouble(cause) {
  const name = cause instanceof DOMException ? cause.name : "";
  const details = /** @type {Record<string, string>} */ ({
    NotAllowedError: "The browser was not allowed to use the camera or microphone. Allow it beside the address, then try again.",
    NotFoundError: "No camera or microphone was found. Plug one in, or choose “No camera”.",
    NotReadableError: "The camera or microphone is in use by another program.",
    OverconstrainedError: "The chosen device is gone. Choose another.",
  });
  return { code: "camera", detail: details[name] ?? "The camera or microphone could not be opened." };
}
