/**
 * @file The one recording that this tab makes: camera, recorder, and the order of its steps with the API.
 *
 * Lives beside the views, so that leaving a page does not end a recording. Must not know elements. Order when stopping:
 * recorder stopped -> everything uploaded -> track complete -> the recording is stopped. If the host stopped it
 * elsewhere, the chunks still go during the finishing time.
 */
import { ApiError } from "./api.js";
import { Recorder } from "./recorder.js";

/** @import { Api } from "./api.js" */
/** @import { Progress, StateEvent } from "./recorder-support.js" */

/** Picture asked of the camera: the recording's own default size and rate. */
const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

/**
 * @typedef {"off" | "opening" | "live"} CameraState
 * @typedef {"idle" | "starting" | "recording" | "interrupted" | "finishing" | "finished"} StudioState
 * @typedef {{ recordingId: string, callId: string, userId: string, host: boolean }} Take
 */

export class Studio extends EventTarget {
  /** @type {CameraState} */ camera = "off";
  /** @type {StudioState} */ state = "idle";
  /** @type {MediaStream | undefined} */ stream;
  /** @type {Take | undefined} */ take;
  /** What went wrong last, for people. @type {{ code: string, detail: string, requestId?: string } | undefined} */ trouble;
  /** "" is the default device; "none" leaves the camera off. */
  devices = { camera: "", microphone: "" };
  /** @type {Recorder | undefined} */ #recorder;
  /** @type {Api} */ #api;
  /** @type {import("./chunk-routes.js").TokenSource} */ #token;

  /**
   * @param {Api} api
   * @param {import("./chunk-routes.js").TokenSource} token
   */
  constructor(api, token) {
    super();
    this.#api = api;
    this.#token = token;
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

  /**
   * Starts the recording of a call, or joins the one that is live.
   * @param {{ callId: string, userId: string, host: boolean, liveRecordingId?: string }} where
   */
  async record({ callId, userId, host, liveRecordingId }) {
    this.#set({ state: "starting", trouble: undefined });
    try {
      if (this.camera !== "live") await this.openCamera();
      const recordingId = liveRecordingId ?? (await this.#startOrJoin(callId));
      this.take = { recordingId, callId, userId, host };
      await this.#open(this.stream?.getVideoTracks().length ? "video" : "audio");
      await this.#begin();
    } catch (cause) {
      await this.#startFailed(cause, liveRecordingId === undefined);
    }
  }

  /**
   * Takes up what an earlier tab left: its chunks are uploaded at once; the person chooses to go on or to finish.
   * @param {Take} take
   * @param {"video" | "audio" | "screen"} kind
   * @param {"open" | "stopped"} left `stopped`: the person had pressed stop, so only the sending is left.
   */
  async recover(take, kind, left) {
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

  /** Stops and finishes; waits as long as the network is away. */
  async stop() {
    const { recorder, take } = this.#open_;
    this.#set({ state: "finishing", trouble: undefined });
    try {
      await recorder.stop();
      await this.#stopRecording(take);
      this.#set({ state: "finished" });
    } catch (cause) {
      this.#set({ trouble: readable(cause) });
    }
  }

  /** After trouble that stopped the uploads: tries again, and finishes if that was under way. */
  async retry() {
    this.#set({ trouble: undefined });
    this.#recorder?.retry();
    if (this.state === "finishing") await this.stop();
  }

  /** Throws away what was not uploaded, and ends the recording on the server. */
  async discard() {
    const { recorder, take } = this.#open_;
    await recorder.discard();
    await this.#stopRecording(take).catch((cause) => this.#set({ trouble: readable(cause) }));
    this.#recorder = undefined;
    this.take = undefined;
    this.#set({ state: "idle" });
  }

  get #open_() {
    if (this.#recorder === undefined || this.take === undefined) throw new Error("no recording is open");
    return { recorder: this.#recorder, take: this.take };
  }

  /** @param {"video" | "audio" | "screen"} kind */
  async #open(kind) {
    const take = /** @type {Take} */ (this.take);
    const { recordingId, callId, userId, host } = take;
    const labels = { callId, host: host ? "yes" : "no" };
    const recorder = await Recorder.open({ recordingId, participantId: userId, kind, token: this.#token, labels });
    recorder.on("progress", () => this.#changed());
    recorder.on("state", (status) => this.#onState(status));
    recorder.on("error", (error) => this.#set({ trouble: error }));
    this.#recorder = recorder;
  }

  async #begin() {
    await this.#open_.recorder.start(/** @type {MediaStream} */ (this.stream));
    this.#set({ state: "recording" });
  }

  /** @param {string} callId */
  async #startOrJoin(callId) {
    try {
      return (await this.#api.startRecording(callId)).recordingId;
    } catch (cause) {
      if (!(cause instanceof ApiError) || cause.code !== "recording-already-live") throw cause;
      const live = (await this.#api.recordings(callId)).find((recording) => recording.status === "recording");
      if (live === undefined) throw cause;
      return live.id;
    }
  }

  /** @param {Take} take */
  async #stopRecording({ callId, host }) {
    if (!host) return;
    await this.#api.stopRecording(callId).catch((cause) => {
      if (cause instanceof ApiError && cause.status === 409) return; // somebody else stopped it
      throw cause;
    });
  }

  /**
   * Nothing was recorded: a recording that was started for it must not stay live.
   * @param {unknown} cause
   * @param {boolean} started
   */
  async #startFailed(cause, started) {
    const take = this.take;
    await this.#recorder?.discard();
    this.#recorder = undefined;
    this.take = undefined;
    if (started && take !== undefined) await this.#stopRecording(take).catch(() => {}); // the first error is the one to tell
    this.#set({ state: "idle", trouble: this.trouble ?? readable(cause) });
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
    return { video: camera === "none" ? false : { ...PICTURE, ...exact(camera) }, audio: exact(microphone) };
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
