import type { Call, Outcome } from "../call.js";
import type { Failure } from "../failure.js";
import type { Queryable } from "../store/database.js";

/** One call's work, waiting for the transaction that it shares with others. */
export interface Job<I> {
  readonly call: Call;
  readonly input: I;
}

/**
 * What came of one job inside the transaction. `stale`: what the caller had read beforehand no longer holds; nothing of the job
 * may be in the transaction then, and the caller prepares it anew.
 */
export type Verdict<T> =
  | { readonly kind: "done"; readonly value: T; readonly outcome: Outcome }
  | { readonly kind: "failed"; readonly failure: Failure }
  | { readonly kind: "stale" };

/**
 * A kind of work. `run` handles all jobs of its kind in one transaction, with statements over all of them, rows in a fixed order. It
 * fills `job.call.resources`, which become the entry. It may run again with the same jobs (deadlock, lost connection), so it
 * changes nothing but the transaction and the resources.
 */
export interface WorkKind<I, T> {
  /** Kinds run in the order of their names, the same in every process. */
  readonly name: string;
  run(tx: Queryable, jobs: readonly Job<I>[]): Promise<readonly Verdict<T>[]>;
}

/** The job was found stale; prepare it anew and submit it again. */
export class Stale extends Error {
  override readonly name = "Stale";
}
