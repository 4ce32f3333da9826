/** A public store, by the official client. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { del, get, head, put } from "@vercel/blob";
import { startStore } from "./server.mjs";

let store;
before(async () => { store = await startStore("public"); });
after(() => store.stop());

test("anybody who knows the URL may read, and save", async () => {
  const made = await put("open.txt", "everybody", { access: "public" });
  assert.equal(new URL(made.url).host, `${store.storeId.toLowerCase()}.public.blob.vercel-storage.com`);
  const answer = await fetch(`${store.downloadUrl}/open.txt`);
  assert.equal(await answer.text(), "everybody");
  assert.equal(answer.headers.get("content-disposition"), 'inline; filename="open.txt"');
  const saved = await fetch(`${store.downloadUrl}/open.txt?download=1`);
  assert.equal(saved.headers.get("content-disposition"), 'attachment; filename="open.txt"');
  const got = await get(made.url, { access: "public" });
  assert.equal(await new Response(got.stream).text(), "everybody");
});

test("a store has one access", async () => {
  await assert.rejects(put("closed.txt", "nobody", { access: "private" }), /Cannot use private access on a public store/);
  await put("host.txt", "here", { access: "public" });
  assert.equal(await get("host.txt", { access: "private" }), null, "its name with another access is nobody's");
});

test("a cache serves what was deleted for a minute, and cannot be passed by", async () => {
  await put("gone.txt", "still here", { access: "public" });
  await del("gone.txt");
  assert.equal(await head("gone.txt").catch((error) => error.constructor.name), "BlobNotFoundError");
  assert.equal((await fetch(`${store.downloadUrl}/gone.txt?cache=0`)).status, 200);
  await store.advance(61_000);
  assert.equal((await fetch(`${store.downloadUrl}/gone.txt`)).status, 404);
});
