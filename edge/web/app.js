/**
 * @file The page: routes by hash, the header, and the banner of an interrupted recording. Views do the rest.
 *
 * `#/` lists calls, `#/calls/ID` is a call, `#/calls/ID/recordings/ID` a recording: each link can be shared.
 */
import { Api } from "./api.js";
import { Conversation } from "./conversation.js";
import { fill, h, icon, setText } from "./dom.js";
import { notedStops } from "./ending.js";
import { unfinishedTracks } from "./recorder.js";
import { onExpired, session, signOut, token } from "./session.js";
import { Studio } from "./studio.js";
import { bannerView, callBannerView, noticeWords } from "./views/banner.js";
import { callView } from "./views/call.js";
import { homeView } from "./views/home.js";
import { recordingView } from "./views/recording.js";
import { signInView } from "./views/sign-in.js";
import { playSound } from "./views/sound.js";

/** @import { Notice } from "./call.js" */

/**
 * @typedef {{ api: Api, studio: Studio, conversation: Conversation, user: { userId: string, name: string } }} App
 * @typedef {{ title: string, element: HTMLElement }} View
 */

const api = new Api(token);
const studio = new Studio(api, token);
const conversation = new Conversation(studio, token);
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const top = /** @type {HTMLElement} */ (document.getElementById("top"));
const announcer = /** @type {HTMLElement} */ (document.getElementById("announcer"));
const banner = /** @type {HTMLElement} */ (document.getElementById("banner"));

let shown = new AbortController();

/** Shows what the address says. The view before is told by its signal to end polling and listening. */
function show() {
  shown.abort();
  shown = new AbortController();
  const user = session();
  renderTop(user);
  const view = user === undefined ? signInView(enter) : route({ api, studio, conversation, user }, shown.signal);
  document.title = view.title === "" ? "Callreel" : `${view.title} · Callreel`;
  fill(main, view.element);
  window.scrollTo(0, 0);
}

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @returns {View}
 */
function route(app, signal) {
  const [calls, callId, recordings, recordingId] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (calls === "calls" && callId && recordings === "recordings" && recordingId) {
    return recordingView(app, callId, recordingId, signal);
  }
  if (calls === "calls" && callId) return callView(app, callId, signal);
  return homeView(app, signal);
}

/** @param {{ userId: string, name: string } | undefined} user */
function renderTop(user) {
  const home = h("a", { class: "brand", href: "#/" }, icon("reel"), h("span", { text: "Callreel" }));
  const leave = h("button", { class: "quiet", text: "Sign out", "data-testid": "sign-out", onclick: leaveSession });
  const who = user && h("span", { class: "who", text: user.name, title: `Signed in as ${user.userId}` });
  fill(top, home, user && h("div", { class: "top-right" }, who, leave));
}

function leaveSession() {
  if (studio.busy) return void alert("Stop the recording first: signing out would end it.");
  conversation.leave();
  studio.closeCamera();
  signOut();
  show();
}

/** After signing in: what an earlier tab has left comes first. */
function enter() {
  show();
  void recover();
}

async function recover() {
  const user = session();
  if (user === undefined) return;
  const tracks = await unfinishedTracks();
  if (studio.busy) return;
  const left = tracks.filter((track) => track.participantId === user.userId);
  const stops = notedStops().filter((stop) => stop.userId === user.userId);
  const sent = stops.find((stop) => !tracks.some((track) => track.recordingId === stop.recordingId));
  if (sent !== undefined) return studio.resumeStop(sent);
  const [first] = left.sort((a, b) => b.pendingBytes - a.pendingBytes);
  if (first === undefined) return;
  const { recordingId, labels, kind } = first;
  const stopped = stops.some((stop) => stop.recordingId === recordingId); // pressed, though the track does not say so yet
  const take = { recordingId, callId: labels.callId, userId: user.userId, host: labels.host === "yes" };
  await studio.recover(take, /** @type {"video" | "audio" | "screen"} */ (kind), stopped ? "stopped" : first.state);
}

let finished = false;
studio.addEventListener("change", () => {
  const now = studio.state === "finished";
  if (now && !finished) void recover(); // one more may wait from earlier
  finished = now;
});
onExpired(show);
window.addEventListener("hashchange", () => (location.hash === "#main" ? undefined : show()));
banner.append(bannerView(studio), callBannerView(conversation));
playSound(conversation);
conversation.addEventListener("notice", (event) => setText(announcer, noticeWords(/** @type {CustomEvent<Notice>} */ (event).detail)));
// Others need not look at a frozen picture for as long as a lost connection is waited for.
window.addEventListener("pagehide", () => conversation.leave());
enter();
