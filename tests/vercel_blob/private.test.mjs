/** A private store, by the official client. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import {
  BlobAccessError, BlobError, BlobFileTooLargeError, BlobNotFoundError, BlobPreconditionFailedError, BlobServiceNotAvailable,
  BlobServiceRateLimited, BlobStoreNotFoundError, BlobStoreSuspendedError, BlobUnknownError, BlobClientTokenExpiredError,
  BlobContentTypeNotAllowedError, BlobPathnameMismatchError, completeMultipartUpload, createFolder, createMultipartUpload,
  createMultipartUploader, del, get, head, issueSignedToken, list, presignUrl, put, uploadPart,
} from "@vercel/blob";
import { generateClientTokenFromReadWriteToken, put as clientPut } from "@vercel/blob/client";
import { startStore } from "./server.mjs";

const MIB = 1024 * 1024;
const PRIVATE = { access: "private" };
let store;
before(async () => { store = await startStore("private"); });
after(() => store.stop());

async function bytesOf(pathname, options = {}) {
  const got = await get(pathname, { ...PRIVATE, useCache: false, ...options });
  return got && Buffer.from(await new Response(got.stream).arrayBuffer());
}

async function allNames(options) {
  const names = [];
  let cursor;
  do {
    const page = await list({ ...options, cursor });
    names.push(...page.blobs.map((blob) => blob.pathname));
    assert.equal(page.hasMore, page.cursor !== undefined);
    cursor = page.cursor;
  } while (cursor);
  return names;
}

describe("put, head, get, delete", () => {
  test("what is put is told and given back", async () => {
    const body = randomBytes(70_000);
    const made = await put("a/one.webm", body, PRIVATE);
    const host = `https://${store.storeId.toLowerCase()}.private.blob.vercel-storage.com`;
    assert.equal(made.url, `${host}/a/one.webm`);
    assert.equal(made.downloadUrl, `${host}/a/one.webm?download=1`);
    assert.equal(made.pathname, "a/one.webm");
    assert.equal(made.contentType, "video/webm");
    assert.equal(made.contentDisposition, 'inline; filename="one.webm"');
    for (const name of ["a/one.webm", made.url]) {
      const told = await head(name);
      assert.deepEqual({ ...told, uploadedAt: 0 }, {
        ...made, size: 70_000, cacheControl: "public, max-age=2592000", uploadedAt: 0,
      });
      assert.ok(Math.abs(told.uploadedAt - Date.now()) < 60_000);
    }
    const got = await get("a/one.webm", PRIVATE);
    assert.deepEqual(Buffer.from(await new Response(got.stream).arrayBuffer()), body);
    assert.equal(got.blob.etag, made.etag);
    assert.equal(got.blob.size, 70_000);
    assert.equal(got.blob.contentType, "video/webm");
    const same = await get("a/one.webm", { ...PRIVATE, ifNoneMatch: made.etag });
    assert.equal(same.statusCode, 304);
    const part = await get("a/one.webm", { ...PRIVATE, headers: { range: "bytes=10-19" } });
    assert.deepEqual(Buffer.from(await new Response(part.stream).arrayBuffer()), body.subarray(10, 20));
    await del("a/one.webm");
    await del([made.url, "a/never-there"]);
    await assert.rejects(head("a/one.webm"), BlobNotFoundError);
    assert.equal(await bytesOf("a/one.webm"), null);
  });

  test("options: content type, cache, suffix, streams, empty bodies, names in any script", async () => {
    const made = await put("b/Größe 1 – 会议.bin", Readable.from([Buffer.from("ab"), Buffer.from("cd")]), {
      ...PRIVATE, contentType: "application/x-callreel", cacheControlMaxAge: 60, addRandomSuffix: true,
    });
    assert.match(made.pathname, /^b\/Größe 1 – 会议-[a-z]{30}\.bin$/);
    const told = await head(made.url);
    assert.equal(told.pathname, made.pathname);
    assert.equal(told.contentType, "application/x-callreel");
    assert.equal(told.contentDisposition.split(";")[0], "attachment");
    assert.equal(told.cacheControl, "public, max-age=60");
    assert.equal((await bytesOf(made.pathname)).toString(), "abcd");
    await put("b/empty", Buffer.alloc(0), PRIVATE);
    assert.equal((await head("b/empty")).size, 0);
    await createFolder("b/folder", PRIVATE);
    assert.ok((await list({ prefix: "b/folder" })).blobs.some((blob) => blob.pathname === "b/folder/"));
    await put("x".repeat(950), "long", PRIVATE);
    assert.equal((await bytesOf("x".repeat(950))).toString(), "long");
  });

  test("an overwrite wants leave, a conditional one the etag", async (t) => {
    const first = await put("c/one", "1", PRIVATE);
    await assert.rejects(put("c/one", "2", PRIVATE), /This blob already exists/);
    await assert.rejects(put("c/one", "2", { ...PRIVATE, ifMatch: '"other"' }), BlobPreconditionFailedError);
    const second = await put("c/one", "2", { ...PRIVATE, ifMatch: first.etag });
    assert.notEqual(second.etag, first.etag);
    await put("c/one", "3", { ...PRIVATE, allowOverwrite: true });
    await assert.rejects(del("c/one", { ifMatch: second.etag }), BlobPreconditionFailedError);
    // A cached read may tell of the first for a minute; one past the cache may not.
    assert.equal((await bytesOf("c/one", { useCache: true })).toString(), "2");
    assert.equal((await bytesOf("c/one")).toString(), "3");
    t.after(() => store.advance(-61_000));
    await store.advance(61_000);
    assert.equal((await bytesOf("c/one", { useCache: true })).toString(), "3");
  });
});

describe("multipart", () => {
  test("a large body by the client's own cutting", async () => {
    const body = randomBytes(20 * MIB + 7);
    const made = await put("m/large.mp4", body, { ...PRIVATE, multipart: true });
    assert.equal(made.contentType, "video/mp4");
    assert.equal((await head("m/large.mp4")).size, body.length);
    assert.ok((await bytesOf("m/large.mp4")).equals(body));
  });

  test("parts in any order, one of them sent twice", async () => {
    const parts = [5, 5, 1].map((size) => randomBytes(size * MIB));
    const uploader = await createMultipartUploader("m/Größe.bin", PRIVATE);
    const told = [];
    for (const number of [3, 1, 2, 1]) told.push(await uploader.uploadPart(number, parts[number - 1]));
    await assert.rejects(uploader.complete([told[1], told[2], told[0]]), BlobError, "an etag that was replaced");
    await uploader.complete([told[0], told[3], told[2]]);
    assert.ok((await bytesOf("m/Größe.bin")).equals(Buffer.concat(parts)));
    await assert.rejects(uploader.complete([told[0], told[3], told[2]]), BlobNotFoundError);
  });

  test("small parts, strange numbers and unknown uploads are refused", async () => {
    const { key, uploadId } = await createMultipartUpload("m/small", PRIVATE);
    const at = { ...PRIVATE, key, uploadId };
    const one = await uploadPart("m/small", Buffer.alloc(5 * MIB - 1), { ...at, partNumber: 1 });
    const two = await uploadPart("m/small", Buffer.alloc(1), { ...at, partNumber: 2 });
    await assert.rejects(completeMultipartUpload("m/small", [one, two], at), /at least 5242880 bytes/);
    await assert.rejects(completeMultipartUpload("m/small", [], at), BlobError);
    for (const partNumber of [0, 10_001]) {
      await assert.rejects(uploadPart("m/small", "x", { ...at, partNumber }), /from 1 to 10000/);
    }
    await assert.rejects(uploadPart("m/small", "x", { ...at, key: "other", partNumber: 1 }), /x-mpu-key/);
    await assert.rejects(uploadPart("m/small", "x", { ...at, uploadId: "none", partNumber: 1 }), BlobNotFoundError);
    await assert.rejects(head("m/small"), BlobNotFoundError);
  });
});

describe("list", () => {
  const names = ["l/a/1", "l/a/2", "l/b", "l/c/x/1", "l/d", "l/e"];
  before(async () => { for (const name of [...names, "lz"]) await put(name, name, PRIVATE); });

  test("by prefix, page by page, each blob once", async () => {
    for (const limit of [1, 2, 5, 6, undefined]) assert.deepEqual(await allNames({ prefix: "l/", limit }), names);
    const [blob] = (await list({ prefix: "l/b" })).blobs;
    const told = await head("l/b");
    assert.deepEqual(blob, {
      url: told.url, downloadUrl: told.downloadUrl, pathname: "l/b", size: 3, uploadedAt: told.uploadedAt, etag: told.etag,
    });
  });

  test("folded, folders once over all pages", async () => {
    for (const limit of [1, 2, 3, 100]) {
      const [blobs, folders] = [[], []];
      let cursor;
      do {
        const page = await list({ prefix: "l/", mode: "folded", limit, cursor });
        blobs.push(...page.blobs.map((blob) => blob.pathname));
        folders.push(...page.folders);
        cursor = page.cursor;
      } while (cursor);
      assert.deepEqual(blobs, ["l/b", "l/d", "l/e"], `${limit} a page`);
      assert.deepEqual(folders, ["l/a/", "l/c/"], `${limit} a page`);
    }
  });

  test("a strange cursor or limit is refused", async () => {
    await assert.rejects(list({ cursor: "!" }), /Invalid cursor/);
    await assert.rejects(list({ limit: 1001 }), /limit/);
  });
});

describe("signed URLs", () => {
  const minute = () => Date.now() + 60_000;

  test("a download works without a token until it expires, and for its operation and pathname alone", async (t) => {
    t.after(() => store.advance(-70_000));
    await put("s/one.webm", "signed", PRIVATE);
    const token = await issueSignedToken({ pathname: "s/one.webm", operations: ["get"], validUntil: minute() });
    const { presignedUrl } = await presignUrl(token, { ...PRIVATE, operation: "get", pathname: "s/one.webm" });
    const look = async (url, init) => {
      const { host, pathname, search } = new URL(url);
      assert.equal(host, `${store.storeId.toLowerCase()}.private.blob.vercel-storage.com`);
      return fetch(`${store.downloadUrl}${pathname}${search}`, init);
    };
    const answer = await look(presignedUrl);
    assert.equal(await answer.text(), "signed");
    assert.equal(answer.headers.get("content-disposition"), 'inline; filename="one.webm"');
    const saved = await look(`${presignedUrl}&download=1`, { headers: { range: "bytes=-3" } });
    assert.equal(saved.status, 206);
    assert.equal(saved.headers.get("content-disposition"), 'attachment; filename="one.webm"');
    assert.equal(await saved.text(), "ned");
    assert.equal((await look(presignedUrl, { method: "HEAD" })).status, 403);
    assert.equal((await look(presignedUrl.replace("one", "two"))).status, 403);
    assert.equal((await look(presignedUrl.split("?")[0])).status, 403);
    const short = await presignUrl(token, {
      ...PRIVATE, operation: "get", pathname: "s/one.webm", validUntil: Date.now() + 30_000,
    });
    assert.equal((await look(short.presignedUrl)).status, 200);
    await store.advance(40_000);
    assert.equal((await look(short.presignedUrl)).status, 403);
    assert.equal((await look(presignedUrl)).status, 200);
    await store.advance(30_000);
    assert.equal((await look(presignedUrl)).status, 403);
  });

  test("an upload and a deletion, within their limits", async () => {
    const token = await issueSignedToken({ operations: ["put", "delete"], validUntil: minute() });
    const at = { ...PRIVATE, pathname: "s/up.bin" };
    const { presignedUrl } = await presignUrl(token, {
      ...at, operation: "put", maximumSizeInBytes: 4, allowOverwrite: true, allowedContentTypes: ["application/*"],
    });
    assert.equal((await fetch(presignedUrl, { method: "PUT", body: "four" })).status, 200);
    const large = await fetch(presignedUrl, { method: "PUT", body: "large" });
    assert.match((await large.json()).error.message, /the file length cannot be greater than 4/);
    const told = await head("s/up.bin");
    const wrong = await presignUrl(token, { ...at, operation: "delete", ifMatch: '"other"' });
    assert.equal((await fetch(wrong.presignedUrl, { method: "DELETE" })).status, 412);
    const right = await presignUrl(token, { ...at, operation: "delete", ifMatch: told.etag });
    assert.equal((await fetch(right.presignedUrl, { method: "DELETE" })).status, 200);
    await assert.rejects(head("s/up.bin"), BlobNotFoundError);
  });

  test("no token for longer than seven days", async () => {
    const week = 7 * 24 * 3600 * 1000;
    await issueSignedToken({ validUntil: Date.now() + week - 60_000 });
    await assert.rejects(issueSignedToken({ validUntil: Date.now() + week + 60_000 }), /seven days/);
  });
});

describe("errors, as the client's classes", () => {
  test("wrong tokens and stores", async () => {
    const { token } = store;
    await assert.rejects(head("x", { token: `${token}x` }), BlobAccessError);
    await assert.rejects(head("x", { token: token.replace(store.storeId, "other") }), BlobStoreNotFoundError);
    await assert.rejects(put("x", "x", { access: "public" }), /Cannot use public access on a private store/);
    await store.suspend(true);
    await assert.rejects(head("x"), BlobStoreSuspendedError);
    await store.suspend(false);
  });

  test("client tokens and what they do not allow", async () => {
    const grant = (options) => generateClientTokenFromReadWriteToken({ pathname: "t/one.txt", ...options });
    const attempt = async (options, pathname = "t/one.txt") =>
      clientPut(pathname, "12345", { ...PRIVATE, token: await grant(options) });
    await attempt({});
    await assert.rejects(attempt({}, "t/two.txt"), BlobPathnameMismatchError);
    await assert.rejects(attempt({ validUntil: Date.now() - 1 }), BlobClientTokenExpiredError);
    await assert.rejects(attempt({ allowOverwrite: true, maximumSizeInBytes: 4 }), BlobFileTooLargeError);
    await assert.rejects(attempt({ allowedContentTypes: ["video/*"] }), BlobContentTypeNotAllowedError);
    await assert.rejects(list({ token: await grant({}) }), /not available when using a client token/);
  });

  test("what a busy or broken service answers", async () => {
    const refused = (status, code, retryAfter) =>
      ({ refused: { status, retryAfter, body: JSON.stringify({ error: { code, message: code } }) } });
    const every = (fault) => ({ share: { seed: 1, percent: 100, faults: [fault] } });
    process.env.VERCEL_BLOB_RETRIES = "0";
    await store.setFaults(every(refused(429, "rate_limited", 7)));
    await assert.rejects(head("x"), (error) => error instanceof BlobServiceRateLimited && error.retryAfter === 7);
    await store.setFaults(every(refused(503, "service_unavailable")));
    await assert.rejects(head("x"), BlobServiceNotAvailable);
    await store.setFaults(every({ refused: { status: 502, body: "<html>Bad gateway</html>" } }));
    await assert.rejects(head("x"), BlobUnknownError);
    process.env.VERCEL_BLOB_RETRIES = "2";
    await store.setFaults("sound");
  });

  test("the client's own retries get through", async () => {
    const unavailable = JSON.stringify({ error: { code: "service_unavailable", message: "" } });
    for (const fault of ["torn", "cut", { late: { delayMs: 20 } }, { refused: { status: 503, body: unavailable } }]) {
      await store.setFaults({ script: { 1: fault } });
      await put("r/one", "retried", { ...PRIVATE, allowOverwrite: true });
      assert.equal((await store.faults()).injected, 1);
    }
    await store.setFaults("sound");
    assert.equal((await bytesOf("r/one")).toString(), "retried");
  });

  test("a body that was damaged on its way is stored as good: only reading it back tells", async () => {
    await store.setFaults({ script: { 1: "truncated" } });
    await put("r/half", "12345678", PRIVATE);
    await store.setFaults({ script: { 1: "flipped" } });
    await put("r/flipped", "12345678", PRIVATE);
    await store.setFaults("sound");
    assert.equal((await head("r/half")).size, 4);
    assert.equal((await bytesOf("r/half")).toString(), "1234");
    assert.equal((await bytesOf("r/flipped")).toString(), "02345678");
  });
});
