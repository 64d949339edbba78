import type { Queryable, Statement } from "./database.js";

/** A line in its place. */
export interface EntryRow {
  readonly log: string;
  readonly stream: string;
  readonly seq: number;
  readonly at: Date;
  readonly line: string;
}

/** A move of a stream's head. `oldSeq` 0: the stream is new. */
export interface HeadMove {
  readonly log: string;
  readonly stream: string;
  readonly kind: "reveal" | "mutation" | "notice";
  readonly oldSeq: number;
  readonly oldHash: Buffer;
  readonly seq: number;
  readonly hash: Buffer;
}

export interface HeadRow {
  readonly stream: string;
  readonly seq: number;
  readonly hash: Buffer;
}

/** The last statement of its transaction: the policy's version is as new as it can be read before COMMIT. */
const INSERT_ENTRIES: Statement = {
  name: "audit_insert_entries",
  text: `with entered as (insert into audit_entries (log, stream, seq, at, line)
    select * from unnest($1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::text[]))
    select (select version from policy_version)::text as version`,
};

const OPEN_HEADS: Statement = {
  name: "audit_open_heads",
  text: `insert into audit_heads (log, stream, kind, seq, hash)
    select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bytea[])`,
};

const MOVE_HEADS: Statement = {
  name: "audit_move_heads",
  text: `update audit_heads h set seq = m.seq, hash = m.hash
    from unnest($1::text[], $2::uuid[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[]) as m (log, stream, old_seq, old_hash, seq, hash)
    where h.log = m.log and h.stream = m.stream and h.seq = m.old_seq and h.hash = m.old_hash
    returning h.seq`,
};

const READ_HEADS: Statement = {
  name: "audit_read_heads",
  text: "select log, stream::text, seq::text as seq, hash from audit_heads where stream = any($1::uuid[])",
};

const LOG_HEADS: Statement = {
  name: "audit_log_heads",
  text: "select h.stream::text as stream, h.seq::text as seq, h.hash from audit_heads h where h.log = $1 order by h.stream",
};

const ENSURE_PARTITIONS: Statement = { name: "audit_ensure_partitions", text: "select audit_ensure_partitions($1)" };

/** Policy version and PostgreSQL's clock, as the committing transaction sees them. */
const MOMENT: Statement = {
  name: "audit_moment",
  text: "select (select version from policy_version)::text as version, date_trunc('milliseconds', clock_timestamp()) as at",
};

/**
 * Appends lines and moves the heads, in the caller's transaction, as the last that it does.
 * @returns the policy's version at this moment
 * @throws Error if a head is not where the writer left it: another process writes in this stream, or the table was changed
 */
export async function appendEntries(tx: Queryable, rows: readonly EntryRow[], moves: readonly HeadMove[]): Promise<number> {
  const fresh = moves.filter((move) => move.oldSeq === 0);
  const moved = moves.filter((move) => move.oldSeq !== 0);
  if (fresh.length > 0) {
    await tx.query(OPEN_HEADS, [
      fresh.map((m) => m.log),
      fresh.map((m) => m.stream),
      fresh.map((m) => m.kind),
      fresh.map((m) => m.seq),
      fresh.map((m) => m.hash),
    ]);
  }
  if (moved.length > 0) {
    const done = await tx.query(MOVE_HEADS, [
      moved.map((m) => m.log),
      moved.map((m) => m.stream),
      moved.map((m) => m.oldSeq),
      moved.map((m) => m.oldHash),
      moved.map((m) => m.seq),
      moved.map((m) => m.hash),
    ]);
    if (done.length !== moved.length) throw new HeadMoved("the head of an audit stream is not where its writer left it");
  }
  const [now] = await tx.query<{ version: string | null }>(INSERT_ENTRIES, [
    rows.map((r) => r.log),
    rows.map((r) => r.stream),
    rows.map((r) => r.seq),
    rows.map((r) => r.at),
    rows.map((r) => r.line),
  ]);
  return Number(now?.version ?? 0);
}

/** A head was not where its only writer left it: the log was tampered with, or two processes share a stream. */
export class HeadMoved extends Error {
  override readonly name = "HeadMoved";
}

/** The committed heads of some streams, by log. */
export async function readHeads(db: Queryable, streams: readonly string[]): Promise<(HeadRow & { readonly log: string })[]> {
  const rows = await db.query<{ log: string; stream: string; seq: string; hash: Buffer }>(READ_HEADS, [streams]);
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }));
}

/** The heads of all streams of a log. */
export async function logHeads(db: Queryable, log: string): Promise<HeadRow[]> {
  const rows = await db.query<{ stream: string; seq: string; hash: Buffer }>(LOG_HEADS, [log]);
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }));
}

/** Makes the partitions of the next months. */
export async function ensurePartitions(db: Queryable, monthsAhead = 3): Promise<void> {
  await db.query(ENSURE_PARTITIONS, [monthsAhead]);
}

/** The moment of a transaction: the policy it commits under, and its time. */
export async function readMoment(tx: Queryable): Promise<{ policyVersion: number; at: Date }> {
  const rows = await tx.query<{ version: string | null; at: Date }>(MOMENT);
  const row = rows[0];
  if (row === undefined) throw new Error("no moment");
  return { policyVersion: Number(row.version ?? 0), at: row.at };
}

/** What ListEntries asks for. Absent: whatever it is. */
export interface EntryFilter {
  readonly log: string;
  readonly from: Date | undefined;
  readonly to: Date | undefined;
  /** Members that the line must hold, at any depth: exact, since a canonical line escapes every quote inside a string. */
  readonly members: readonly { readonly key: string; readonly value: string }[];
}

/** A point in a log, newest first. */
export interface EntryPoint {
  /** With PostgreSQL's precision. */
  readonly at: string;
  readonly stream: string;
  readonly seq: number;
}

/**
 * Walks back from a point through at most $8 entries, and answers with those that match and with the last one walked through, so that
 * the next page begins behind it. The bounds are never null, so that a plan that is kept walks the index as well.
 */
const LIST: Statement = {
  name: "audit_list",
  text: `select w.at::text as at, w.stream::text as stream, w.seq::text as seq, w.walked::int as walked, case when w.matches then w.line end as line
    from (
      select e.*, row_number() over (order by e.at desc, e.stream desc, e.seq desc) as walked,
        (select bool_and(position(m in e.line) > 0) from unnest($7::text[]) as m) is not false as matches
      from (
        select e.at, e.stream, e.seq, e.line from audit_entries e
        where e.log = $1 and e.at >= $2::timestamptz and e.at < $3::timestamptz and (e.at, e.stream, e.seq) < ($4::timestamptz, $5::uuid, $6::bigint)
        order by e.at desc, e.stream desc, e.seq desc limit $8
      ) e
    ) w where w.matches or w.walked = $8 limit $9`,
};

/** Before every entry, seen from the newest. */
const newest: EntryPoint = { at: "infinity", stream: "ffffffff-ffff-ffff-ffff-ffffffffffff", seq: Number.MAX_SAFE_INTEGER };

/** Part of a log, newest first. */
export interface EntrySlice {
  readonly rows: readonly (EntryPoint & { readonly line: string })[];
  /** The last entry that was looked at, where that was not the last of all that the filter leaves. */
  readonly walkedTo: EntryPoint | undefined;
}

/**
 * At most `most` entries after a point, newest first, and at most `walked_max` looked through.
 * @throws Failure STORE_UNAVAILABLE
 */
export async function listEntries(db: Queryable, filter: EntryFilter, after: EntryPoint | undefined, most: number, walked_max: number): Promise<EntrySlice> {
  const from = after ?? newest;
  const found = await db.query<{ at: string; stream: string; seq: string; walked: number; line: string | null }>(LIST, [
    filter.log,
    filter.from ?? "-infinity",
    filter.to ?? "infinity",
    from.at,
    from.stream,
    from.seq,
    filter.members.map(({ key, value }) => `${JSON.stringify(key)}:${JSON.stringify(value)}`),
    walked_max,
    most,
  ]);
  const last = found.at(-1);
  return {
    rows: found.flatMap(({ at, stream, seq, line }) => (line === null ? [] : [{ at, stream, seq: Number(seq), line }])),
    walkedTo: last?.walked === walked_max ? { at: last.at, stream: last.stream, seq: Number(last.seq) } : undefined,
  };
}

const STREAMS: Statement = {
  name: "audit_streams",
  text: "select h.stream::text as stream from audit_heads h where h.log = $1 and ($2::uuid is null or h.stream >= $2::uuid) order by h.stream limit $3",
};
const STREAM_LINES: Statement = {
  name: "audit_stream_lines",
  text: `select e.seq::text as seq, e.line from audit_entries e where e.log = $1 and e.stream = $2::uuid and e.seq > $3
    and ($4::timestamptz is null or e.at >= $4) and ($5::timestamptz is null or e.at < $5) order by e.seq limit $6`,
};

/** Writer streams of a log, from one on, in the order of their birth (their IDs are UUIDv7). */
export async function listStreams(db: Queryable, log: string, from: string | undefined, most: number): Promise<string[]> {
  return (await db.query<{ stream: string }>(STREAMS, [log, from ?? null, most])).map((row) => row.stream);
}

/** Lines of one stream after a sequence number. */
export async function readStream(
  db: Queryable,
  log: string,
  stream: string,
  afterSeq: number,
  range: { readonly from: Date | undefined; readonly to: Date | undefined },
  most: number,
): Promise<{ seq: number; line: string }[]> {
  const rows = await db.query<{ seq: string; line: string }>(STREAM_LINES, [log, stream, afterSeq, range.from ?? null, range.to ?? null, most]);
  return rows.map((row) => ({ seq: Number(row.seq), line: row.line }));
}
