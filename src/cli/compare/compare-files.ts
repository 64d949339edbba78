import { access, stat } from "node:fs/promises";
import type { DetokenizeResponse } from "../../../gen/cardex/v1/token_service_pb.js";
import { exitCodes } from "../exit-codes.js";
import { openCardLines } from "../import/card-lines.js";
import { readColumnOptions } from "../import/columns.js";
import { Meter } from "../import/meter.js";
import { readRow } from "../import/row.js";
import type { FileLine } from "../lines.js";
import type { Shell } from "../shell.js";
import { type Answer, type BatchResult, settleItems } from "../transient.js";
import { readLineRecords, RecordCursor } from "./line-records.js";

/** What is compared, and how. */
export interface CompareOptions {
  readonly tokensFile: string;
  readonly cardsFile: string;
  readonly rejects?: string;
  readonly column: readonly string[];
  readonly delimiter: string;
  /** Batches under way at once. */
  readonly parallel: number;
  /** Sends tokens as one BatchDetokenize; results in their order. */
  readonly send: (tokens: readonly string[]) => Promise<readonly BatchResult<DetokenizeResponse>[]>;
  readonly json?: true;
}

/** What came of a comparison. */
export interface CompareCounts {
  /** The token gave the PAN of its line. */
  equal: number;
  /** It gave another one. */
  different: number;
  /** Lines that have neither a token nor a reject, tokens that gave no PAN, and tokens or rejects of no line. */
  missing: number;
  /** Lines that the import rejected. */
  rejected: number;
}

interface Pair {
  readonly line: number;
  readonly pan: string;
  readonly token: string;
}

const batchLines = 500;

/**
 * Detokenizes a whole file of tokens and holds each PAN against the line that it was imported from, both files streamed side by
 * side. PANs are compared in memory only. Exit code 6 unless all are equal or were rejected.
 */
export async function compareFiles(shell: Shell, options: CompareOptions): Promise<void> {
  const counts: CompareCounts = { equal: 0, different: 0, missing: 0, rejected: 0 };
  const { size } = await stat(options.cardsFile);
  const source = { file: options.cardsFile, stdin: shell.streams.stdin as AsyncIterable<Uint8Array>, delimiter: options.delimiter, names: readColumnOptions(options.column) };
  const lines = await openCardLines(source, { lines: 0, bytes: 0 });
  const tokens = new RecordCursor(readLineRecords(options.tokensFile, "token"));
  const rejects = new RecordCursor(await openRejects(options));
  const meter = new Meter(shell, size);
  const send = (pairs: readonly Pair[]) => meter.patiently(options.send(pairs.map(({ token }) => token)));
  const underWay: Promise<void>[] = [];
  try {
    for await (const group of lines.groups(batchLines)) {
      const pairs: Pair[] = [];
      for (const line of group) {
        if (isEmpty(line)) continue;
        const [token, reject] = [await tokens.at(line.number), await rejects.at(line.number)];
        const read = readRow(line, lines.columns, options.delimiter);
        if (token !== undefined && read !== undefined && "row" in read) pairs.push({ line: line.number, pan: read.row.pan, token: token.value });
        else if (reject !== undefined) counts.rejected += 1;
        else if (read !== undefined) counts.missing += 1;
      }
      const work = settleItems<Pair, DetokenizeResponse>(pairs, send, shell.signal).then((answers) => count(counts, pairs, answers, (line, what) => shell.tell(`line ${line}: ${what}`)));
      // Heard when it is waited for; until then a failure must not count as unheard.
      work.catch(() => {});
      underWay.push(work);
      if (underWay.length >= options.parallel) await underWay.shift();
      meter.advance(group.length, group.at(-1)?.end ?? 0);
    }
    await Promise.all(underWay);
    await tokens.finish();
    await rejects.finish();
  } finally {
    meter.stop();
  }
  counts.missing += tokens.skipped + rejects.skipped;
  await summarize(shell, counts, options);
}

function count(counts: CompareCounts, pairs: readonly Pair[], answers: readonly Answer<DetokenizeResponse>[], tell: (line: number, what: string) => void): void {
  for (const [i, pair] of pairs.entries()) {
    const answer = answers[i];
    if (answer === undefined || "refusal" in answer) {
      counts.missing += 1;
      tell(pair.line, `gave no card number: ${answer?.refusal.reason ?? "no answer"}`);
    } else if (answer.response.pan === pair.pan) counts.equal += 1;
    else {
      counts.different += 1;
      tell(pair.line, "gave another card number");
    }
  }
}

async function openRejects(options: CompareOptions) {
  if (options.rejects !== undefined) return readLineRecords(options.rejects, "reason");
  const beside = `${options.tokensFile}.rejects.csv`;
  const there = await access(beside).then(
    () => true,
    () => false,
  );
  return there ? readLineRecords(beside, "reason") : nothing();
}

async function* nothing(): AsyncGenerator<never, void, undefined> {}

function isEmpty(line: FileLine): boolean {
  return line.bytes.length === 0 && !line.tooLong;
}

async function summarize(shell: Shell, counts: CompareCounts, options: CompareOptions): Promise<void> {
  const { equal, different, missing, rejected } = counts;
  await shell.print(options.json === true ? JSON.stringify(counts) : `${equal} equal, ${different} different, ${missing} missing, ${rejected} rejected at import`);
  shell.exitCode = different + missing > 0 ? exitCodes.unverified : exitCodes.ok;
}
