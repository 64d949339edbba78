import type { TokenizeResponse } from "../../../gen/cardex/v1/token_service_pb.js";
import type { FileLine } from "../lines.js";
import { type BatchResult, settleItems } from "../transient.js";
import type { CardLines } from "./card-lines.js";
import type { Ledger } from "./ledger.js";
import { rejectOf, type RowResult } from "./result-rows.js";
import { type CardRow, readRow } from "./row.js";

/** How an import runs. */
export interface ImportRun {
  readonly lines: CardLines;
  readonly ledger: Ledger;
  readonly delimiter: string;
  /** Lines of one batch, 1 to 1,000. */
  readonly batch: number;
  /** Batches under way at once. */
  readonly parallel: number;
  /** Sends rows as one BatchTokenize; results in their order. */
  readonly send: (rows: readonly CardRow[]) => Promise<readonly BatchResult<TokenizeResponse>[]>;
  readonly signal: AbortSignal;
  /** Called after results were added: number of rows, bytes of input done. */
  readonly advance: (rows: number, done_bytes: number) => void;
}

interface Batch {
  readonly results: readonly RowResult[];
  readonly end: FileLine;
}

type SettledBatch = { readonly batch: Batch } | { readonly error: unknown };

/**
 * Sends the lines in batches, several under way at once, and adds their results in the order of the input. When it ends early, what
 * stands before the first unfinished batch is kept.
 * @throws whatever ended it early
 */
export async function importCards(run: ImportRun): Promise<void> {
  const underWay: Promise<SettledBatch>[] = [];
  const finishOldest = async (): Promise<void> => {
    const settled = await underWay.shift();
    if (settled === undefined) return;
    if ("error" in settled) throw settled.error;
    const { results, end } = settled.batch;
    await run.ledger.add(results, { lines: end.number, bytes: end.end });
    run.advance(results.length, end.end);
  };
  try {
    for await (const lines of run.lines.groups(run.batch)) {
      run.signal.throwIfAborted();
      underWay.push(settle(tokenizeLines(run, lines)));
      if (underWay.length >= run.parallel) await finishOldest();
    }
    while (underWay.length > 0) await finishOldest();
  } finally {
    await run.ledger.save();
  }
}

/** Waits for a batch without letting its failure go unheard while an older one is waited for. */
async function settle(work: Promise<Batch>): Promise<SettledBatch> {
  try {
    return { batch: await work };
  } catch (error) {
    return { error };
  }
}

async function tokenizeLines(run: ImportRun, lines: readonly FileLine[]): Promise<Batch> {
  const read = lines.map((line) => readRow(line, run.lines.columns, run.delimiter)).filter((each) => each !== undefined);
  const rows = read.flatMap((each) => ("row" in each ? [each.row] : []));
  const answers = await settleItems(rows, run.send, run.signal);
  const byLine = new Map(rows.map((row, i) => [row.line, answers[i]]));
  const results = read.map((each): RowResult => {
    if ("reject" in each) return each;
    const answer = byLine.get(each.row.line);
    if (answer === undefined) throw new Error("unreachable: every row that was sent has an answer");
    return "response" in answer ? { row: each.row, response: answer.response } : { reject: rejectOf(each.row.line, answer.refusal) };
  });
  return { results, end: lines.at(-1) as FileLine };
}
