/**
 * @file The first page: begin a call, open one, and the calls so far.
 */
import { ApiError } from "../api.js";
import { fill, h, icon, setText } from "../dom.js";
import { when } from "../format.js";
import { CALM_POLL_MS, poll } from "../polling.js";
import { field } from "./sign-in.js";

/** @import { Call } from "../api.js" */

/**
 * @param {import("../app.js").App} app
 * @param {AbortSignal} signal
 * @returns {import("../app.js").View}
 */
export function homeView(app, signal) {
  const list = h("div", { class: "call-list", "aria-live": "off" });
  const error = h("p", { class: "form-error", role: "alert" });
  const failed = (/** @type {unknown} */ cause) => setText(error, cause instanceof ApiError ? cause.detail : "The calls could not be read.");
  const ask = async () => {
    showCalls(list, await app.api.calls());
    setText(error, "");
    return CALM_POLL_MS;
  };
  poll(ask, failed, signal);
  const calls = h("section", { class: "card", "aria-labelledby": "calls-title" }, h("h2", { id: "calls-title", text: "Your calls" }), error, list);
  const side = h("div", { class: "stack" }, createForm(app), openForm());
  return { title: "", element: h("div", { class: "page" }, h("h1", { text: `Hello, ${app.user.name}` }), h("div", { class: "columns" }, calls, side)) };
}

/** @param {import("../app.js").App} app */
function createForm({ api, user }) {
  const title = h("input", { id: "call-title", "data-testid": "call-title", placeholder: "Weekly review", maxlength: 200 });
  const people = h("input", { id: "call-people", "data-testid": "call-people", autocapitalize: "off", spellcheck: "false" });
  const error = h("p", { class: "form-error", role: "alert" });
  const submit = h("button", { class: "primary wide", "data-testid": "create-call", text: "Create call" });
  const onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    submit.disabled = true;
    setText(error, "");
    try {
      const invited = people.value.split(/[\s,]+/).filter((id) => id !== "");
      const call = await api.createCall({ title: title.value.trim() || undefined, participants: invited.length === 0 ? undefined : [...new Set([user.userId, ...invited])] });
      location.hash = `#/calls/${encodeURIComponent(call.id)}`;
    } catch (cause) {
      setText(error, cause instanceof ApiError ? cause.detail : "The call could not be created.");
      submit.disabled = false;
    }
  };
  const invite = field("Invite (optional)", people, "User ids, with commas between them. Leave it empty and whoever has the link can join.");
  return h("form", { class: "card", onsubmit }, h("h2", { text: "New call" }), field("Title (optional)", title), invite, error, submit);
}

function openForm() {
  const id = h("input", { id: "call-id", required: true, "data-testid": "call-id", placeholder: "call_…", autocapitalize: "off", spellcheck: "false" });
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    location.hash = `#/calls/${encodeURIComponent(id.value.trim())}`;
  };
  const row = h("div", { class: "joined" }, id, h("button", { "data-testid": "open-call", text: "Open" }));
  return h("form", { class: "card", onsubmit }, h("h2", { text: "Open a call" }), h("div", { class: "field" }, h("label", { for: "call-id", text: "Call id" }), row));
}

/**
 * @param {HTMLElement} list
 * @param {Call[]} calls
 */
function showCalls(list, calls) {
  if (calls.length > 0) return fill(list, h("ul", { class: "rows" }, ...calls.map(callRow)));
  const text = "Calls that you host or take part in will appear here. Create one to make your first recording.";
  fill(list, h("div", { class: "empty" }, icon("camera"), h("h3", { text: "No calls yet" }), h("p", { class: "muted", text })));
}

/** @param {Call} call */
function callRow(call) {
  const facts = [when(call.createdAt), call.status === "ended" && "ended"].filter(Boolean).join(" · ");
  const text = h("span", { class: "row-text" }, h("strong", { text: call.title || "Untitled call" }), h("span", { class: "muted", text: facts }));
  return h("li", {}, h("a", { class: "row", href: `#/calls/${encodeURIComponent(call.id)}`, "data-testid": "call-row" }, text, icon("next")));
}
