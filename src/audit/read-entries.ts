import { invalidField } from "../failure.js";
import { type EntryFilter, type EntryPoint, type HeadRow, listEntries, listStreams, logHeads, readStream } from "../store/audit.js";
import type { Database } from "../store/database.js";
import { isMoment } from "../store/moment.js";

/** One page of a log. */
export interface EntryPage {
  readonly lines: readonly string[];
  readonly next: string;
}

/** Lines of an export, and the point after them. */
export interface ExportChunk {
  readonly lines: readonly string[];
  readonly cursor: string;
  /** In the last chunk only. */
  readonly heads: readonly HeadRow[];
}

/** Lines read at once. */
const linesAtOnce = 500;
const streamsAtOnce = 100;

/** Size of the lines in one message, bytes: a client takes 4 MiB a message where nobody told it otherwise. */
const linesSize_max = 1_048_576;

/** What a line takes beside itself in a message, bytes: its hash, tags and lengths. */
const lineExtra_bytes = 64;

/**
 * Lists entries, newest first. A page may have fewer than asked, or none, and still a next one: no page looks through more than
 * `walked_max` entries, or has lines of more than a MiB (one line always goes).
 * @throws Failure INVALID_FIELD for a page token that is not ours
 */
export async function pageOfEntries(db: Database, filter: EntryFilter, pageSize: number, pageToken: string, walked_max: number): Promise<EntryPage> {
  const after = pageToken === "" ? undefined : readPoint(pageToken);
  const { rows, walkedTo } = await listEntries(db, filter, after, pageSize + 1, walked_max);
  const page = fitting(rows.slice(0, pageSize));
  const end = page.length < rows.length ? page.at(-1) : walkedTo;
  return { lines: page.map((row) => row.line), next: end === undefined ? "" : Buffer.from(JSON.stringify([end.at, end.stream, end.seq])).toString("base64url") };
}

/**
 * All entries of a time range, stream by stream, each in its own order. A stream's entries are contiguous and appear in order, so nothing
 * can be missed that commits while the export runs; going on from a cursor continues exactly behind it. Holds one chunk at a time.
 */
export async function* exportEntries(
  db: Database,
  log: string,
  range: { readonly from: Date | undefined; readonly to: Date | undefined },
  cursor: string,
): AsyncGenerator<ExportChunk> {
  // Read first: everything up to these heads is in the export. A range that ends early can't reach them.
  const heads = range.to === undefined ? await logHeads(db, log) : [];
  let [from, seq] = cursor === "" ? [undefined, 0] : readCursor(cursor);
  let last = cursor;
  for (;;) {
    const streams = await listStreams(db, log, from, streamsAtOnce);
    const fresh = streams.filter((stream) => stream !== from || seq >= 0);
    for (const stream of fresh) {
      if (stream !== from) seq = 0;
      for (;;) {
        const rows = await readStream(db, log, stream, seq, range, linesAtOnce);
        for (let rest: readonly (typeof rows)[number][] = rows; rest.length > 0; ) {
          const chunk = fitting(rest);
          rest = rest.slice(chunk.length);
          seq = chunk.at(-1)?.seq ?? seq;
          last = Buffer.from(JSON.stringify([stream, seq])).toString("base64url");
          yield { lines: chunk.map((row) => row.line), cursor: last, heads: [] };
        }
        if (rows.length < linesAtOnce) break;
      }
      from = stream;
    }
    if (streams.length < streamsAtOnce) break;
    // The last one is listed again, and was read to its end.
    seq = -1;
  }
  yield { lines: [], cursor: last, heads };
}

/** As many of these, from the first on, as go into one message; one always goes. */
function fitting<R extends { readonly line: string }>(rows: readonly R[]): readonly R[] {
  let size_bytes = 0;
  const tooMany = rows.findIndex(({ line }, i) => {
    size_bytes += Buffer.byteLength(line) + lineExtra_bytes;
    return i > 0 && size_bytes > linesSize_max;
  });
  return tooMany === -1 ? rows : rows.slice(0, tooMany);
}

function readPoint(token: string): EntryPoint {
  const [at, stream, seq] = decode(token, "page_token");
  if (isMoment(at) && isUuid(stream) && isSequence(seq)) return { at, stream, seq };
  throw invalidField("page_token", "is not one that this server gave; start without it");
}

function readCursor(cursor: string): [string, number] {
  const [stream, seq] = decode(cursor, "cursor");
  if (isUuid(stream) && isSequence(seq)) return [stream, seq];
  throw invalidField("cursor", "is not one that this server gave; start without it");
}

function decode(text: string, field: string): unknown[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    if (Array.isArray(value)) return value;
  } catch {
    // Not JSON: answered below.
  }
  throw invalidField(field, "is not one that this server gave; start without it");
}

function isUuid(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
}

function isSequence(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
