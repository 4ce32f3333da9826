/**
 * @file What a recording is, as facts: size, length, format, and the files with their checksums.
 */
import { h } from "../dom.js";
import { bytes, span, when } from "../format.js";

/** @import { Artifact, Recording } from "../api.js" */

/** @param {Recording} recording */
export function factList(recording) {
  const main = recording.artifacts?.find((artifact) => artifact.width);
  /** @type {[string, string | undefined | null | false | 0][]} */
  const facts = [
    ["Length", recording.duration && span(recording.duration)],
    ["Size", recording.fileSize && bytes(recording.fileSize)],
    ["Format", recording.format?.toUpperCase()],
    ["Picture", main && `${main.width} × ${main.height}`],
    ["Started", when(recording.startedAt)],
    ["Stopped", recording.stoppedAt && when(recording.stoppedAt)],
    ["Ready", recording.completedAt && when(recording.completedAt)],
    ["Kept until", recording.expiresAt && when(recording.expiresAt)],
    ["Id", recording.id],
  ];
  const rows = facts.filter(([, value]) => value).map(([term, value]) => h("div", {}, h("dt", { text: term }), h("dd", { text: value })));
  return h("dl", { class: "facts" }, ...rows);
}

/** @param {Recording} recording */
export function artifactTable({ artifacts = [] }) {
  if (artifacts.length === 0) return null;
  const heads = ["File", "Type", "Size", "SHA-256"].map((text) => h("th", { scope: "col", text }));
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...artifacts.map(artifactRow)));
  return h("details", { class: "card" }, h("summary", {}, h("h2", { text: "Files" })), h("div", { class: "scroll" }, table));
}

/** @param {Artifact} artifact */
function artifactRow({ kind, contentType, size, sha256 }) {
  return h("tr", {}, h("td", { text: kind }), h("td", { text: contentType }), h("td", { text: bytes(size) }), h("td", {}, h("code", { class: "digest", text: sha256 })));
}
