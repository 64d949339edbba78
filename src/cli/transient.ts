import { status } from "@grpc/grpc-js";
import { setTimeout as sleep } from "node:timers/promises";
import type { ItemError } from "../../gen/cardex/v1/reason_pb.js";
import { type CardexError, itemFailure } from "../client/error.js";
import type { RetryPolicy } from "../client/retry.js";
import { CommandFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";

/** A result of a batch RPC. */
export interface BatchResult<R> {
  readonly result: { readonly case: "response"; readonly value: R } | { readonly case: "error"; readonly value: ItemError } | { readonly case: undefined; readonly value?: undefined };
}

/** What finally came of one item: its response, or why it is refused for good. */
export type Answer<R> = { readonly response: R } | { readonly refusal: CardexError };

/** Patience of long jobs: about a minute and a half of a server that is away. */
export const patientRetries: RetryPolicy = { attempts_max: 25, backoff_ms: 200, backoff_ms_max: 5000 };

const attempts_max = 10;
const backoff_ms = 200;
/** A limit that asks for more than this is an answer about the item, not a pause. */
const wait_ms_max = 60_000;

const fatal = new Set<number>([status.PERMISSION_DENIED, status.UNAUTHENTICATED, status.DATA_LOSS, status.CANCELLED, status.UNKNOWN, status.UNIMPLEMENTED]);
const passing = new Set<number>([status.UNAVAILABLE, status.ABORTED, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED, status.INTERNAL]);

/**
 * Sends items until each has an answer of its own. Items that failed because the server was away or busy are sent again, with the
 * same request_id; what can't go on (denied, still failing after ten attempts) ends the job, not the item.
 * @throws CardexError, CommandFailure
 */
export async function settleItems<I, R>(
  items: readonly I[],
  send: (items: readonly I[]) => Promise<readonly BatchResult<R>[]>,
  signal: AbortSignal,
): Promise<Answer<R>[]> {
  const answers: (Answer<R> | undefined)[] = items.map(() => undefined);
  let open = items.map((_, i) => i);
  for (let attempt = 1; open.length > 0; attempt += 1) {
    const results = await send(open.map((i) => items[i] as I));
    if (results.length !== open.length) throw new CommandFailure(exitCodes.failed, `the server sent ${results.length} results for ${open.length} items`);
    const again: number[] = [];
    let wait_ms = Math.min(backoff_ms * 2 ** (attempt - 1), 5000);
    for (const [k, { result }] of results.entries()) {
      const i = open[k] as number;
      if (result.case === "response") answers[i] = { response: result.value };
      else {
        const error = refusalOf(result.value);
        if (fatal.has(error.code) || (isPassing(error) && attempt >= attempts_max)) throw error;
        if (isPassing(error)) {
          again.push(i);
          wait_ms = Math.max(wait_ms, error.retryAfter_ms ?? 0);
        } else answers[i] = { refusal: error };
      }
    }
    open = again;
    if (open.length > 0) await sleep(wait_ms, undefined, { signal });
  }
  return answers as Answer<R>[];
}

function isPassing(error: CardexError): boolean {
  return passing.has(error.code) && (error.retryAfter_ms ?? 0) <= wait_ms_max;
}

function refusalOf(item: ItemError | undefined): CardexError {
  if (item === undefined) throw new CommandFailure(exitCodes.failed, "the server sent a result that holds neither a response nor an error");
  return itemFailure(item);
}
