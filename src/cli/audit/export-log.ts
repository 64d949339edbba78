import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { ExportEntriesResponse } from "../../../gen/cardex/v1/audit_service_pb.js";
import { type ChainHead, type ChainProblem, ChainVerifier, type StreamSummary } from "../../audit/verify-chain.js";
import type { CardexClient } from "../../client/client.js";
import { CardexError } from "../../client/error.js";
import { retryDelay_ms } from "../../client/retry.js";
import { setTimeout as sleep } from "node:timers/promises";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import { AppendFile } from "../import/append-file.js";
import { exists, requireFolder } from "../output-file.js";
import { timeText } from "../output.js";
import { patientRetries } from "../transient.js";
import { cursorFileOf, type ExportCursor, readCursor, removeCursor, writeCursor } from "./cursor-file.js";
import { type ExportRange, headsFileOf, writeHeads } from "./heads-file.js";
import { verifyFile } from "./verify-file.js";

/** What to export, and where to. */
export interface ExportRequest {
  readonly file: string;
  readonly from: Timestamp | undefined;
  readonly to: Timestamp | undefined;
  /** Start over and replace what is there. */
  readonly force: boolean;
  readonly signal: AbortSignal;
  /** Told what could not be checked, and why. */
  readonly note: (line: string) => void;
  readonly tell: (problem: ChainProblem) => void;
}

/** What an export has written. */
export interface ExportSummary {
  readonly entries: number;
  readonly streams: number;
  readonly problems: number;
}

/** Bytes between two points that an interrupted export can go on from. */
const checkpoint_bytes = 4 * 1024 * 1024;

/**
 * Writes a range of the log to a file, one canonical line an entry, and checks the chains on the way. Goes on after a lost
 * connection, and, called again, after an interruption. At the end the heads stand in a file beside it.
 * @throws CardexError, CommandFailure
 */
export async function exportLog(client: Pick<CardexClient, "audit">, request: ExportRequest): Promise<ExportSummary> {
  const range: ExportRange = { from: timeText(request.from) ?? null, to: timeText(request.to) ?? null };
  const cursorFile = cursorFileOf(request.file);
  await requireFolder(request.file);
  const begin = await whereToBegin(request, range, cursorFile);
  let problems = 0;
  const tell = (problem: ChainProblem): void => {
    problems += 1;
    request.tell(problem);
  };
  const verifier = begin.length_bytes === 0 ? new ChainVerifier() : await verifyFile(request.file, tell, begin.length_bytes);
  const out = await AppendFile.resume(request.file, begin.length_bytes);
  let saved = begin;
  const save = async (cursor: string): Promise<void> => {
    await out.sync();
    saved = { ...begin, cursor, length_bytes: out.length_bytes };
    await writeCursor(cursorFile, saved);
  };
  let cursor = begin.cursor;
  let heads: readonly ChainHead[] = [];
  let before: readonly StreamSummary[] = [];
  try {
    await writeCursor(cursorFile, begin);
    for await (const message of messages(client, request, begin.cursor, () => {
      before = verifier.streams();
    })) {
      await out.append(message.lines.map((line) => `${line}\n`).join(""));
      for (const line of message.lines) {
        const problem = verifier.accept(Buffer.from(line));
        if (problem !== undefined) tell(problem);
      }
      if (message.cursor !== "") cursor = message.cursor;
      if (message.heads.length > 0) heads = message.heads.map(headOf);
      if (out.length_bytes - saved.length_bytes >= checkpoint_bytes) await save(cursor);
    }
    await out.make();
    await out.sync();
  } catch (error) {
    await save(cursor);
    throw error;
  } finally {
    await out.close();
  }
  const checked = heads.filter((head) => !hasGrown(head, before, request.note));
  for (const problem of verifier.finish({ heads: checked, fromBeginning: range.from === null, toEnd: range.to === null })) tell(problem);
  await writeHeads(headsFileOf(request.file), range, verifier.streams());
  await removeCursor(cursorFile);
  const streams = verifier.streams();
  return { entries: streams.reduce((sum, { entries }) => sum + entries, 0), streams: streams.length, problems };
}

/**
 * Whether a stream was passed before an interruption and has grown since. Heads are told at the end of an export, so for
 * these there is none to hold the end against.
 * @param before the streams at the last interruption; the last of them is where the export went on
 */
function hasGrown(head: ChainHead, before: readonly StreamSummary[], note: (line: string) => void): boolean {
  const current = before.at(-1);
  // Streams come in the order of their IDs. A server may write its first entry in this log long after its stream was born.
  if (current === undefined || head.stream >= current.stream) return false;
  const known = before.find(({ stream }) => stream === head.stream);
  if (known === undefined) {
    note(`stream ${head.stream} has entries since the export passed it, before an interruption; they are not in the file`);
    return true;
  }
  if (known.seq >= head.seq) return false;
  note(`stream ${head.stream} was read before an interruption and has grown since; its entries after ${known.seq} are not in the file`);
  return true;
}

async function whereToBegin(request: ExportRequest, range: ExportRange, cursorFile: string): Promise<ExportCursor> {
  const start: ExportCursor = { version: 1, ...range, cursor: "", length_bytes: 0 };
  if (request.force) return start;
  const found = await readCursor(cursorFile, range);
  if (found !== undefined) return found;
  if (await exists(request.file)) throw new CommandFailure(exitCodes.usage, `${request.file} exists already; choose another name, or replace it with --force`);
  return start;
}

/** The messages of the export, through as many calls as it takes. */
async function* messages(client: Pick<CardexClient, "audit">, request: ExportRequest, start: string, onResume: () => void): AsyncGenerator<ExportEntriesResponse, void, undefined> {
  let cursor = start;
  let attempt = 1;
  for (;;) {
    const { from, to } = request;
    if (cursor !== "") onResume();
    const init = { cursor, ...(from === undefined ? {} : { startTime: from }), ...(to === undefined ? {} : { endTime: to }) };
    try {
      for await (const message of client.audit.exportEntries(init, { signal: request.signal })) {
        yield message;
        attempt = 1;
        if (message.cursor !== "") cursor = message.cursor;
      }
      return;
    } catch (error) {
      const delay_ms = error instanceof CardexError ? retryDelay_ms(error, attempt, Number.POSITIVE_INFINITY, patientRetries) : undefined;
      if (delay_ms === undefined || request.signal.aborted) throw error;
      await sleep(delay_ms, undefined, { signal: request.signal });
      attempt += 1;
    }
  }
}

function headOf(head: { readonly stream: string; readonly seq: bigint; readonly hash: Uint8Array }): ChainHead {
  return { stream: head.stream, seq: Number(head.seq), hash: Buffer.from(head.hash).toString("hex") };
}
