/**
 * @file Who is signed in: the token, kept over reloads, and fetched anew when it has run out.
 *
 * Must not know views. A development token is asked for again by itself; a pasted one cannot be, so the person is asked.
 */
import { ApiError, developmentToken } from "./api.js";

/** Key in localStorage: a recording that a crashed tab left must find its user in a new tab. */
const KEY = "callreel-session";
/** A token is renewed when it has less than this left, so that none runs out on its way. */
const RENEW_BEFORE_MS = 60_000;

/** @typedef {{ token: string, userId: string, name: string, source: "development" | "pasted" }} Session */

/** @type {Session | undefined} */
let current = read();
/** @type {Promise<string> | undefined} */
let renewing;
/** @type {(() => void) | undefined} */
let expired;

/** @returns {Session | undefined} */
export const session = () => current;

/** @param {() => void} listener Called when the person must sign in again. */
export function onExpired(listener) {
  expired = listener;
}

/** @param {string} userId @param {string} name */
export async function signIn(userId, name) {
  const token = await developmentToken({ userId, name: name || undefined });
  keep({ token, userId, name: name || userId, source: "development" });
}

/** @param {string} token */
export function signInWithToken(token) {
  const claims = readClaims(token);
  if (typeof claims?.sub !== "string") {
    throw new ApiError({ code: "not-a-token", status: 0, detail: "this is not a JSON Web Token with a subject" });
  }
  keep({ token, userId: claims.sub, name: claims.name ?? claims.sub, source: "pasted" });
}

export function signOut() {
  current = undefined;
  localStorage.removeItem(KEY);
}

/**
 * The token for a request.
 * @param {"normal" | "rejected"} reason
 * @returns {Promise<string>}
 */
export async function token(reason) {
  if (current === undefined) throw signedOut();
  const left = (readClaims(current.token)?.exp ?? Infinity) * 1000 - Date.now();
  if (reason === "normal" && left > RENEW_BEFORE_MS) return current.token;
  if (current.source === "pasted") {
    if (reason === "normal" && left > 0) return current.token;
    expired?.();
    throw signedOut();
  }
  renewing ??= renew(current).finally(() => (renewing = undefined));
  return renewing;
}

/** @param {Session} old */
async function renew(old) {
  const fresh = await developmentToken({ userId: old.userId, name: old.name });
  keep({ ...old, token: fresh });
  return fresh;
}

const signedOut = () => new ApiError({ code: "signed-out", status: 401, detail: "please sign in again" });

/** @param {Session} session */
function keep(session) {
  current = session;
  localStorage.setItem(KEY, JSON.stringify(session));
}

/** @returns {Session | undefined} */
function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "") ?? undefined;
  } catch {
    return undefined;
  }
}

/**
 * The payload, unverified: only the server's check counts.
 * @param {string} token
 * @returns {{ sub?: string, name?: string, exp?: number } | undefined}
 */
function readClaims(token) {
  try {
    const base64 = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
