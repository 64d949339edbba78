import { createHash } from "node:crypto";
import type { Call, Outcome, Resource } from "../call.js";

/** Largest line, bytes of UTF-8. */
export const lineSize_max = 16_384;

/** `prev` of a stream's first entry. */
export const chainStart = "0".repeat(64);

/** Room for what the writer adds when the entry's place is known: log, stream, seq, prev, time. */
const placeSize_bytes = 400;

type Json = string | number | { readonly [key: string]: Json } | readonly Json[];

/** What an entry says, before its place in a stream is known. One call makes one draft, or k of n where one line is too small. */
export interface EntryDraft {
  readonly log: string;
  readonly fields: { readonly [key: string]: Json };
}

/** Where an entry stands. */
export interface EntryPlace {
  readonly stream: string;
  readonly seq: number;
  /** SHA-256 of the line before, lower-case hex. */
  readonly prev: string;
  readonly time: Date;
}

/** What came of a call, for its entry. */
export interface CallResult {
  readonly outcome: Outcome;
  /** gRPC-independent reason, of a call that did not succeed. */
  readonly reason?: string | undefined;
}

/**
 * RFC 8785 for what entries are made of: strings, safe integers, arrays and objects. ECMAScript's JSON.stringify writes these as the
 * RFC wants; what is left to do is to sort the keys by UTF-16 code units (3.2.3).
 */
export function canonicalJson(value: Json): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new Error("numbers in an audit entry are safe integers");
    return JSON.stringify(value);
  }
  if (isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(",")}}`;
}

function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** The line as hashed, stored and exported; without a line feed. */
export function entryLine(draft: EntryDraft, place: EntryPlace): string {
  return canonicalJson({
    ...draft.fields,
    v: 1,
    log: draft.log,
    stream: place.stream,
    seq: place.seq,
    prev: place.prev,
    time: place.time.toISOString(),
  });
}

/** SHA-256 of a line's UTF-8 bytes: the next entry's `prev`. */
export function lineHash(line: string): Buffer {
  return createHash("sha256").update(line, "utf8").digest();
}

/** The entry of a call; several, k of n, where its resources do not fit one line. */
export function callDrafts(call: Call, result: CallResult): EntryDraft[] {
  const head: Record<string, Json> = {
    kind: "call",
    call: call.id,
    rpc: call.rpc,
    principal: call.principal.id,
    address: call.address,
    outcome: result.outcome,
    ...(result.reason === undefined ? {} : { reason: result.reason }),
    ...(call.purpose === undefined ? {} : { purpose: call.purpose }),
    ...(call.requestId === undefined ? {} : { request_id: call.requestId }),
    ...call.facts,
  };
  const groups = fitResources(call.resources, lineSize_max - placeSize_bytes - byteLength(canonicalJson(head)));
  return groups.map((resources, i) => ({
    log: call.principal.tenant,
    fields: {
      ...head,
      ...(groups.length === 1 ? {} : { part: i + 1, parts: groups.length }),
      ...(resources.length === 0 ? {} : { resources }),
    },
  }));
}

/** The entry of something that is not a call: a start, an alert, a sum of refusals, a withheld answer. */
export function noticeDraft(log: string, kind: string, facts: Readonly<Record<string, string | number>>): EntryDraft {
  return { log, fields: { ...facts, kind } };
}

function fitResources(resources: readonly Resource[], room_bytes: number): Json[][] {
  const groups: Json[][] = [[]];
  let size = 0;
  for (const resource of resources) {
    const json = resourceJson(resource);
    const length = byteLength(canonicalJson(json)) + 1;
    let group = groups.at(-1) as Json[];
    if (size + length > room_bytes && group.length > 0) {
      groups.push((group = []));
      size = 0;
    }
    group.push(json);
    size += length;
  }
  return groups;
}

function resourceJson(resource: Resource): Json {
  return {
    ...(resource.token === undefined ? {} : { token: resource.token }),
    ...(resource.indexCode === undefined ? {} : { index_code: resource.indexCode }),
    ...(resource.card === undefined ? {} : { card: resource.card }),
    ...(resource.outcome === undefined ? {} : { outcome: resource.outcome }),
    ...(resource.reason === undefined ? {} : { reason: resource.reason }),
  };
}

function byteLength(text: string): number {
  return Buffer.byteLength(text, "utf8");
}
