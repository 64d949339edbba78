import type { Call } from "../call.js";
import { Failure } from "../failure.js";
import { callDrafts, type EntryDraft, noticeDraft } from "./entry.js";
import type { Placed } from "./stream.js";
import { type Job, Stale, type Verdict, type WorkKind } from "./work.js";

/** A job of any kind, on its way through the writer. */
export interface Waiting {
  readonly kind: WorkKind<unknown, unknown> | undefined;
  readonly job: Job<unknown>;
  /** For work that is only an entry. */
  readonly drafts: readonly EntryDraft[] | undefined;
  /** Whether the policy's version must be the one decided under. */
  readonly decided: boolean;
  readonly settle: (result: Ended) => void;
}

/** Items of a job: those of a batch, else one. */
export function itemsOf(each: Waiting): number {
  return Array.isArray(each.job.input) ? Math.max(1, each.job.input.length) : 1;
}

/** Takes the next batch out of a queue: at least one job, and no more than `items_max` items. */
export function takeBatch(queue: Waiting[], items_max: number): Waiting[] {
  let items = 0;
  let jobs = 0;
  for (const each of queue) {
    items += itemsOf(each);
    if (jobs > 0 && items > items_max) break;
    jobs += 1;
  }
  return queue.splice(0, jobs);
}

export type Ended =
  | { readonly how: "done"; readonly value: unknown }
  | { readonly how: "failed"; readonly error: unknown }
  | { readonly how: "decide"; readonly policyVersion: number };

/** What was learned inside the transaction, to be told once the commit is known. */
export interface Round {
  readonly results: Map<Waiting, Ended>;
  readonly placed: Placed;
}

/** The entry that tells that an answer, whose entry says "released", did not leave. */
export function withheldDraft(call: Call): EntryDraft {
  return noticeDraft(call.principal.tenant, "withheld", {
    call: call.id,
    rpc: call.rpc,
    principal: call.principal.id,
    outcome: "withheld",
  });
}

/** The entries that a job leaves, in this transaction. */
export function entriesOf(each: Waiting, ended: Ended | undefined): readonly EntryDraft[] {
  if (ended === undefined || !hasEntry(ended)) return [];
  if (each.drafts !== undefined) return each.drafts;
  if (ended.how === "done") return callDrafts(each.job.call, { outcome: (ended.value as Done).outcome });
  const failure = (ended as { error: Failure }).error;
  return callDrafts(each.job.call, { outcome: "failed", reason: failure.inner ?? failure.reason });
}

/** What `Ended` carries of a job of some kind. */
interface Done {
  readonly outcome: Parameters<typeof callDrafts>[1]["outcome"];
}

/** How a verdict ends a job. */
export function ending(verdict: Verdict<unknown> | undefined): Ended {
  if (verdict === undefined) return { how: "failed", error: new Error("no verdict") };
  if (verdict.kind === "done") return { how: "done", value: verdict };
  return { how: "failed", error: verdict.kind === "stale" ? new Stale("what was read beforehand no longer holds") : verdict.failure };
}

/** Whether a job leaves an entry: work that is to be done again leaves none yet. */
export function hasEntry(ended: Ended): boolean {
  return ended.how === "done" || (ended.how === "failed" && ended.error instanceof Failure);
}

/** Tells all of them the same failure; whoever was told before is not told again. */
export function failAll(batch: readonly Waiting[], error: unknown): void {
  for (const each of batch) each.settle({ how: "failed", error });
}

/** Whether the entry of a job said that a PAN was released. */
export function saysReleased(ended: Ended | undefined): boolean {
  return ended?.how === "done" && (ended.value as Done | undefined)?.outcome === "released";
}
