/**
 * @file The one call that this tab is in: joins the studio's camera and microphone to a {@link CallClient}.
 *
 * Lives beside the views, so that looking at another page does not leave the call. Must not know elements.
 */
import { CallClient } from "./call.js";

/** @import { Notice, Person } from "./call.js" */
/** @import { Studio } from "./studio.js" */
/** @import { TokenSource } from "./chunk-routes.js" */

/** Frames of a shared screen: text and slides stay sharp, and scrolling still reads. */
const SCREEN = { video: { frameRate: { ideal: 15, max: 30 } }, audio: false };

export class Conversation extends EventTarget {
  /** @type {CallClient | undefined} */ client;
  /** @type {string | undefined} */ callId;
  /** @type {MediaStreamTrack | undefined} */ screen;
  /** @type {Studio} */ #studio;
  /** @type {TokenSource} */ #token;

  /** @param {Studio} studio @param {TokenSource} token */
  constructor(studio, token) {
    super();
    this.#studio = studio;
    this.#token = token;
    studio.addEventListener("change", () => this.#sync());
  }

  /** In a call, or on the way into it. */
  get busy() {
    return this.client !== undefined && this.client.state !== "ended";
  }

  /** @param {string} callId */
  in(callId) {
    return this.busy && this.callId === callId;
  }

  /** @returns {Person[]} The others. */
  get people() {
    return [...(this.client?.people.values() ?? [])];
  }

  /**
   * Enters a call with what the studio shows; without a camera and microphone one still sees and hears the others.
   * @param {string} callId
   * @param {{ userId: string, name: string }} user
   */
  async join(callId, user) {
    this.leave();
    this.callId = callId;
    const url = `${location.origin.replace(/^http/, "ws")}/video-calls/ws`;
    const client = new CallClient({ url, roomId: callId, userId: user.userId, name: user.name, token: this.#token });
    this.client = client;
    client.addEventListener("change", () => this.#told(client));
    client.addEventListener("notice", (event) => this.#notice(client, /** @type {CustomEvent<Notice>} */ (event).detail));
    if (this.#studio.camera !== "live") await this.#studio.openCamera().catch(() => {}); // told by studio.trouble
    if (client !== this.client) return;
    this.#sync();
    client.join();
  }

  leave() {
    this.#endScreen();
    this.client?.leave();
  }

  toggleMicrophone() {
    this.#studio.switchMicrophone(this.#studio.shown.microphone === "on" ? "off" : "on");
  }

  toggleCamera() {
    return this.#studio.switchCamera(this.#studio.shown.camera === "on" ? "off" : "on");
  }

  /** Shows a screen, or no longer. That a person chose none is no error. */
  async toggleScreen() {
    if (this.screen !== undefined) return this.#endScreen();
    const stream = await navigator.mediaDevices.getDisplayMedia(SCREEN).catch(() => undefined);
    const track = stream?.getVideoTracks()[0];
    if (track === undefined) return;
    if (!this.busy) return track.stop();
    track.contentHint = "detail";
    track.addEventListener("ended", () => this.#endScreen()); // by the browser's own button
    this.screen = track;
    this.client?.publish("screen", track);
  }

  #endScreen() {
    this.screen?.stop();
    this.screen = undefined;
    this.client?.publish("screen", undefined);
  }

  /** Publishes what the studio shows now. */
  #sync() {
    const { client } = this;
    if (client === undefined || !this.busy) return this.#changed();
    const { sound, picture, shown } = this.#studio;
    client.publish("audio", sound);
    client.publish("video", picture);
    const muted = { audio: sound === undefined || shown.microphone === "off", video: picture === undefined };
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      if (muted[kind] === client.muted.has(kind)) continue;
      if (muted[kind]) client.mute(kind);
      else client.unmute(kind);
    }
    this.#changed();
  }

  /** @param {CallClient} client */
  #told(client) {
    if (client !== this.client) return;
    if (client.state === "ended" && this.screen !== undefined) this.#endScreen();
    this.#changed();
  }

  /** @param {CallClient} client @param {Notice} detail */
  #notice(client, detail) {
    if (client === this.client) this.dispatchEvent(new CustomEvent("notice", { detail }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
