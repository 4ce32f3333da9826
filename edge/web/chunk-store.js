/**
 * @file The chunks that the server has not acknowledged yet, in IndexedDB, so that they outlive the tab.
 *
 * It must not know the network or MediaRecorder. Two object stores:
 * - `tracks`: one row per (recording, kind): who records, and the next free sequence number;
 * - `chunks`: one row per (recording, kind, sequence): the bytes and what the upload needs.
 *
 * A chunk and the number after it are written in one transaction. So a number is never given twice, not even when the
 * tab dies between two chunks: other bytes under a number that the server may already hold would be a conflict.
 *
 * Bytes are kept as ArrayBuffer, not Blob: Firefox refuses Blobs in private windows, and a Blob's file is written
 * beside the transaction that claims it.
 */

/** Name of the database; one per origin. */
export const DATABASE = "callreel-recorder";
/** Schema version of that database. */
const VERSION = 1;

/**
 * @typedef {object} TrackRow
 * @property {string} recordingId
 * @property {string} kind "video", "audio" or "screen".
 * @property {string} participantId
 * @property {number} nextSequence First number that no chunk has.
 * @property {number} recordedMs Media recorded so far, over all sessions.
 * @property {number} recordedBytes
 * @property {"open" | "stopped"} state `stopped`: nothing more will be recorded, only uploaded.
 * @property {Record<string, string>} labels What the host page wants to find again (a call id, say).
 *
 * @typedef {object} ChunkRow
 * @property {string} recordingId
 * @property {string} kind
 * @property {number} sequence
 * @property {string} mimeType
 * @property {number} timestampMs Epoch at which the chunk's media began.
 * @property {string} sha256 Base64, as `content-digest` wants it.
 * @property {number} size
 * @property {ArrayBuffer} bytes
 *
 * @typedef {{ sequence: number, size: number }} Pending
 */

/** One track's rows. Open it with {@link openChunkStore}. */
export class ChunkStore {
  /** @type {IDBDatabase} */ #db;
  /** @type {string} */ #recordingId;
  /** @type {string} */ #kind;
  /**
   * Chunks that IndexedDB refused (quota). They live as long as the tab; the recorder stops at the first, so there
   * are never more than the few blobs that were already on their way.
   * @type {Map<number, ChunkRow>}
   */
  #refused = new Map();

  /**
   * @param {IDBDatabase} db
   * @param {string} recordingId
   * @param {string} kind
   */
  constructor(db, recordingId, kind) {
    this.#db = db;
    this.#recordingId = recordingId;
    this.#kind = kind;
  }

  /** @returns {Promise<TrackRow | undefined>} */
  async track() {
    const transaction = this.#db.transaction("tracks");
    return result(transaction.objectStore("tracks").get([this.#recordingId, this.#kind]));
  }

  /** @param {TrackRow} track */
  async putTrack(track) {
    const transaction = this.#write(["tracks"], "relaxed");
    transaction.objectStore("tracks").put(track);
    await committed(transaction);
  }

  /**
   * Keeps a chunk and the track that counts it, both or neither.
   *
   * `strict` durability: the chunk is on disk, not only in the browser's cache, before its upload begins. One flush a
   * second costs nothing; without it a power cut could take the number back while the server holds the chunk.
   * @param {ChunkRow} chunk
   * @param {TrackRow} track With `nextSequence` already past the chunk.
   * @returns {Promise<"kept" | "refused">} `refused`: no room; the chunk is held in memory instead.
   */
  async append(chunk, track) {
    try {
      const transaction = this.#write(["chunks", "tracks"], "strict");
      transaction.objectStore("chunks").put(chunk);
      transaction.objectStore("tracks").put(track);
      await committed(transaction);
      return "kept";
    } catch {
      this.#refused.set(chunk.sequence, chunk);
      return "refused";
    }
  }

  /**
   * @param {number} sequence
   * @returns {Promise<ChunkRow | undefined>}
   */
  async chunk(sequence) {
    const held = this.#refused.get(sequence);
    if (held !== undefined) return held;
    const transaction = this.#db.transaction("chunks");
    return result(transaction.objectStore("chunks").get([this.#recordingId, this.#kind, sequence]));
  }

  /**
   * Forgets a chunk that the server has acknowledged. Relaxed: should the deletion be lost, the chunk is sent once
   * more and answered 200.
   * @param {number} sequence
   */
  async remove(sequence) {
    if (this.#refused.delete(sequence)) return;
    const transaction = this.#write(["chunks"], "relaxed");
    transaction.objectStore("chunks").delete([this.#recordingId, this.#kind, sequence]);
    await committed(transaction);
  }

  /**
   * What waits for upload, in order. Reads sizes one row at a time, so a large backlog is never in memory whole.
   * @returns {Promise<Pending[]>}
   */
  async pending() {
    /** @type {Pending[]} */
    const found = [];
    const transaction = this.#db.transaction("chunks");
    const request = transaction.objectStore("chunks").openCursor(this.#range());
    await eachRow(request, (row) => found.push({ sequence: row.sequence, size: row.size }));
    for (const row of this.#refused.values()) found.push({ sequence: row.sequence, size: row.size });
    return found.sort((a, b) => a.sequence - b.sequence);
  }

  /** Forgets the track and every chunk of it. */
  async clear() {
    this.#refused.clear();
    const transaction = this.#write(["chunks", "tracks"], "strict");
    transaction.objectStore("chunks").delete(this.#range());
    transaction.objectStore("tracks").delete([this.#recordingId, this.#kind]);
    await committed(transaction);
  }

  close() {
    this.#db.close();
  }

  /** Every sequence of this track: arrays sort element by element, and an array sorts after every number. */
  #range() {
    return IDBKeyRange.bound([this.#recordingId, this.#kind], [this.#recordingId, this.#kind, []]);
  }

  /**
   * @param {string[]} stores
   * @param {IDBTransactionDurability} durability
   */
  #write(stores, durability) {
    return this.#db.transaction(stores, "readwrite", { durability });
  }
}

/**
 * @param {string} recordingId
 * @param {string} kind
 * @returns {Promise<ChunkStore>}
 */
export async function openChunkStore(recordingId, kind) {
  return new ChunkStore(await openDatabase(), recordingId, kind);
}

/**
 * Every track that this browser has not finished, with what is still to upload.
 * @returns {Promise<(TrackRow & { pendingChunks: number, pendingBytes: number })[]>}
 */
export async function unfinishedTracks() {
  const db = await openDatabase();
  try {
    /** @type {TrackRow[]} */
    const tracks = await result(db.transaction("tracks").objectStore("tracks").getAll());
    const counted = tracks.map(async (track) => {
      const pending = await new ChunkStore(db, track.recordingId, track.kind).pending();
      const pendingBytes = pending.reduce((sum, chunk) => sum + chunk.size, 0);
      return { ...track, pendingChunks: pending.length, pendingBytes };
    });
    return await Promise.all(counted);
  } finally {
    db.close();
  }
}

/** @returns {Promise<IDBDatabase>} */
async function openDatabase() {
  const request = indexedDB.open(DATABASE, VERSION);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("tracks", { keyPath: ["recordingId", "kind"] });
    request.result.createObjectStore("chunks", { keyPath: ["recordingId", "kind", "sequence"] });
  };
  const db = await result(request);
  // A newer page in another tab wants to change the schema: let it, instead of blocking it for ever.
  db.onversionchange = () => db.close();
  return db;
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @param {IDBTransaction} transaction
 * @returns {Promise<void>}
 */
function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

/**
 * @param {IDBRequest<IDBCursorWithValue | null>} request
 * @param {(row: ChunkRow) => void} visit
 * @returns {Promise<void>}
 */
function eachRow(request, visit) {
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor === null) return resolve();
      visit(cursor.value);
      cursor.continue();
    };
  });
}
