import canonicalize from "canonicalize";
import { createHash } from "node:crypto";

/** Most bytes of one entry line, without its line feed. */
export const entryLine_bytes_max = 16_384;

const noPrevious = "0".repeat(64);

/** The newest entry of one writer stream. */
export interface ChainHead {
  /** ID of the writer stream. */
  readonly stream: string;
  /** Its sequence number, from 1. */
  readonly seq: number;
  /** SHA-256 of its line, lower-case hex. */
  readonly hash: string;
}

/** What is wrong, and where. */
export interface ChainProblem {
  /** Line of the file, from 1; undefined for what only shows at the end. */
  readonly line: number | undefined;
  readonly stream: string | undefined;
  readonly message: string;
}

/** One writer stream as far as it was read. */
export interface StreamSummary extends ChainHead {
  /** Sequence number of the first entry that was read. Where it is not 1, that entry's `prev` was taken as given. */
  readonly firstSeq: number;
  readonly entries: number;
}

/** What the end of an export is held against. */
export interface ExpectedEnd {
  /** Heads of the streams. */
  readonly heads: readonly ChainHead[];
  /** The export had no start time: each stream begins at 1. */
  readonly fromBeginning: boolean;
  /** The export had no end time: each stream reaches its head. It may go on behind it, for the log does not stand still meanwhile. */
  readonly toEnd: boolean;
  /** The heads are those of this very file, as kept beside it: each stream ends there, and there are no others. */
  readonly exact?: boolean;
}

interface StreamState {
  readonly firstSeq: number;
  readonly log: unknown;
  entries: number;
  seq: number;
  hash: string;
  /** The entries k of n under way, where k < n. */
  open: { readonly call: unknown; readonly part: number; readonly parts: number } | undefined;
}

interface EntryLinks {
  readonly stream: string;
  readonly seq: number;
  readonly prev: string;
  readonly part: number;
  readonly parts: number;
  readonly call: unknown;
  readonly log: unknown;
}

/**
 * Checks the lines of an audit export one by one, in constant memory (one small state a writer stream): each is canonical JSON
 * (RFC 8785) of at most 16 KiB; each stream stands in one piece, its sequence has no gap, each entry names the SHA-256 of the
 * one before it, and entries k of n are complete. Needs nothing but the lines: no key, no server.
 *
 * Heads show what chains alone can't: that the last entries were not cut off or changed. Stops at nothing: after a problem it
 * goes on from what the line says, so that one change is told once.
 */
export class ChainVerifier {
  readonly #streams = new Map<string, StreamState>();
  #current: string | undefined;
  #lines = 0;

  /** Takes the next line, without its line feed. Answers with what is wrong with it, or undefined. */
  accept(line: Uint8Array): ChainProblem | undefined {
    this.#lines += 1;
    const entry = readEntry(line);
    if (typeof entry === "string") return this.#problem(undefined, entry);
    const hash = createHash("sha256").update(line).digest("hex");
    const known = this.#streams.get(entry.stream);
    const message = known === undefined ? wrongFirst(entry) : this.#wrongNext(known, entry);
    this.#current = entry.stream;
    this.#streams.set(entry.stream, advance(known, entry, hash));
    return message === undefined ? undefined : this.#problem(entry.stream, message);
  }

  /** The streams so far, in the order in which they appeared. */
  streams(): StreamSummary[] {
    return [...this.#streams].map(([stream, { firstSeq, entries, seq, hash }]) => ({ stream, firstSeq, entries, seq, hash }));
  }

  /** To be called after the last line. Answers with what is wrong at the end: unfinished parts, heads that are not reached. */
  finish(end?: ExpectedEnd): ChainProblem[] {
    const problems: ChainProblem[] = [];
    const add = (stream: string, message: string): void => void problems.push({ line: undefined, stream, message });
    for (const [stream, { open }] of this.#streams) {
      if (open !== undefined) add(stream, `ends with part ${open.part} of ${open.parts}; the rest is missing`);
    }
    if (end === undefined) return problems;
    const heads = new Map(end.heads.map((head) => [head.stream, head]));
    for (const [stream, state] of this.#streams) {
      if (end.fromBeginning && state.firstSeq !== 1) add(stream, `begins at entry ${state.firstSeq}; entries 1 to ${state.firstSeq - 1} are missing`);
      const message = wrongEnd(state, heads.get(stream), end);
      if (message !== undefined) add(stream, message);
    }
    for (const head of end.heads) {
      if ((end.exact === true || (end.fromBeginning && end.toEnd)) && !this.#streams.has(head.stream)) add(head.stream, `is missing as a whole; its head is entry ${head.seq}`);
    }
    return problems;
  }

  #wrongNext(state: StreamState, entry: EntryLinks): string | undefined {
    if (this.#current !== entry.stream) return "continues a stream that ended earlier in the file; lines were moved";
    if (entry.seq !== state.seq + 1) {
      const what = entry.seq > state.seq ? "entries are missing" : "an entry stands twice or out of order";
      return `has sequence number ${entry.seq} where ${state.seq + 1} was due; ${what}`;
    }
    if (entry.prev !== state.hash) return `its prev is not the SHA-256 of entry ${state.seq}; this line or the one before it was changed`;
    if (entry.log !== state.log) return "belongs to another log than the entries before it";
    return wrongPart(state.open, entry);
  }

  #problem(stream: string | undefined, message: string): ChainProblem {
    return { line: this.#lines, stream, message };
  }
}

function wrongEnd(state: StreamState, head: ChainHead | undefined, end: ExpectedEnd): string | undefined {
  if (head === undefined) return end.exact === true ? "is not among the heads" : undefined;
  if (state.seq === head.seq) return state.hash === head.hash ? undefined : `entry ${state.seq} is not the one that the head names; it was changed`;
  if (state.seq > head.seq) return end.exact === true ? `has entry ${state.seq}, but its head is entry ${head.seq}` : undefined;
  return end.exact === true || end.toEnd ? `ends at entry ${state.seq}, but its head is entry ${head.seq}; entries are missing` : undefined;
}

function wrongFirst(entry: EntryLinks): string | undefined {
  if (entry.seq === 1 && entry.prev !== noPrevious) return "its prev is not 64 zeros, though it is the first entry of its stream";
  return wrongPart(undefined, entry);
}

function wrongPart(open: StreamState["open"], entry: EntryLinks): string | undefined {
  if (open === undefined) return entry.part === 1 ? undefined : `is part ${entry.part} of ${entry.parts} without the parts before it`;
  if (entry.call === open.call && entry.part === open.part + 1 && entry.parts === open.parts) return undefined;
  return `stands where part ${open.part + 1} of ${open.parts} was due`;
}

function advance(known: StreamState | undefined, entry: EntryLinks, hash: string): StreamState {
  const open = entry.part < entry.parts ? { call: entry.call, part: entry.part, parts: entry.parts } : undefined;
  return {
    firstSeq: known?.firstSeq ?? entry.seq,
    log: known === undefined ? entry.log : known.log,
    entries: (known?.entries ?? 0) + 1,
    seq: entry.seq,
    hash,
    open,
  };
}

/** The fields that link an entry to others, or what is wrong with the line itself. */
function readEntry(line: Uint8Array): EntryLinks | string {
  if (line.length > entryLine_bytes_max) return `has ${line.length} bytes, more than ${entryLine_bytes_max}`;
  const value = readCanonical(line);
  if (typeof value === "string") return value;
  // An entry that is the only one of its call names no parts.
  const { v, stream, seq, prev, part = 1, parts = 1, call, log } = value;
  if (v !== 1) return "is no entry of version 1";
  if (typeof stream !== "string" || stream === "") return "has no stream";
  if (!isPositive(seq)) return "has no sequence number";
  if (typeof prev !== "string" || !/^[0-9a-f]{64}$/.test(prev)) return "its prev is not 64 hex digits";
  if (!isPositive(part) || !isPositive(parts) || part > parts) return "is not part k of n";
  return { stream, seq, prev, part, parts, call, log };
}

/** Only the canonical form is accepted, so that one entry has one line and one hash. */
function readCanonical(line: Uint8Array): Record<string, unknown> | string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(line);
  } catch {
    return "is not UTF-8";
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
    if (canonicalize(value) !== text) return "is not in canonical form (RFC 8785)";
  } catch {
    return "can't be read as JSON";
  }
  // RFC 8785 section 3.2.2.2: a lone surrogate has no canonical form, though JSON can write one.
  if (/(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(text)) return "holds a lone surrogate";
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : "is not a JSON object";
}

function isPositive(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}
