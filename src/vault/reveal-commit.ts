import { HsmError } from "../../hsm/hsm.js";
import type { Job, Verdict, WorkKind } from "../audit/work.js";
import type { Call, Resource } from "../call.js";
import { requestIdReused } from "../cards/card-mutation.js";
import { checkRelease, type StoredStatus } from "../cards/card-status.js";
import { Failure, notFound } from "../failure.js";
import type { Queryable } from "../store/database.js";
import { answerClaims, type Claim, claimRequests, dropClaims } from "../store/requests.js";
import { findStates, lockLimited, spendUses, tokenKey, type TokenRef, type TokenState } from "../store/tokens.js";

/** A token whose PAN is decrypted and waits for its audit entry; or one that has failed already and is only audited. */
export interface RevealItem {
  readonly token: string;
  readonly cardId: string;
  readonly purpose: string;
  /** Whether it has a limited number of uses. */
  readonly limited: boolean;
  readonly claim: Claim | undefined;
}

export interface FailedItem {
  readonly failure: unknown;
  /** Only where it was well-formed. */
  readonly token: string | undefined;
}

/** What the transaction found of one item. */
export interface Judged {
  /** Why the PAN must not leave; undefined: it may. */
  readonly failure: unknown;
  readonly state: TokenState | undefined;
}

interface Step {
  readonly job: Job<readonly (RevealItem | FailedItem)[]>;
  readonly item: RevealItem | FailedItem;
  failure: unknown;
  /** Spends no use: its request_id has spent one in an earlier transaction. */
  repeat: boolean;
  fresh: boolean;
  /** Token and card as they were judged in this transaction. */
  state: TokenState | undefined;
  /** Has the same request_id as this earlier step, and ends as that one does. */
  sameAs: Step | undefined;
}

/** The scope of a token that has none, as policy names it. */
export const noScope = "(none)";

/**
 * Whether this caller may have this token's PAN for this purpose.
 * @param mayRepeat whether a request_id may show that the last use was this caller's own
 * @returns the Failure, or undefined
 */
export function judgeToken(call: Call, state: TokenState, purpose: string, mayRepeat: boolean): Failure | undefined {
  if (!call.mayUseScope(state.scope === "" ? noScope : state.scope)) return notFound("scope");
  if (state.revoked) return notFound("revoked");
  if (state.expired) return notFound("expired");
  if (state.uses_max > 0 && state.uses_left === 0 && !mayRepeat) return notFound("used up");
  try {
    checkRelease(state.status as StoredStatus, purpose);
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

/**
 * The transaction that a reveal waits for: tokens and cards are judged once more as they are now, by PostgreSQL's clock; uses of limited
 * tokens are spent (k occurrences need k); request_ids are claimed, so that a repeat spends nothing. Answers item by item.
 */
export function revealKind(kept_hours: number): WorkKind<readonly (RevealItem | FailedItem)[], readonly Judged[]> {
  return {
    name: "vault reveal",
    run: async (tx, jobs) => {
      const byJob = jobs.map((job) =>
        job.input.map((item): Step => ({ job, item, failure: "failure" in item ? item.failure : undefined, repeat: false, fresh: false, state: undefined, sameAs: undefined })),
      );
      const steps = byJob.flat();
      await claim(tx, steps, kept_hours);
      // Locked before they are judged: what is judged then holds until the commit.
      const left = await lock(tx, steps);
      await judge(tx, steps);
      await spend(tx, steps, left);
      for (const step of steps) if (step.sameAs !== undefined) step.failure = step.sameAs.failure;
      const fresh = steps.filter((step) => step.fresh);
      await answerClaims(
        tx,
        fresh.filter((step) => step.failure === undefined).map((step) => ({ claim: claimOf(step), answer: Buffer.alloc(0) })),
      );
      await dropClaims(tx, fresh.filter((step) => step.failure !== undefined).map(claimOf));
      return jobs.map((job, i) => verdictOf(job, byJob[i] ?? []));
    },
  };
}

type OpenStep = Step & { readonly item: RevealItem };

const isOpen = (step: Step): step is OpenStep => step.failure === undefined && step.sameAs === undefined && !("failure" in step.item);

const claimOf = (step: Step): Claim => (step.item as RevealItem).claim as Claim;

const refOf = (step: OpenStep): TokenRef => ({ tenant: step.job.call.principal.tenant, token: step.item.token });

async function claim(tx: Queryable, steps: readonly Step[], kept_hours: number): Promise<void> {
  const withClaim = steps.filter(isOpen).filter((step) => step.item.claim !== undefined);
  const claimed = await claimRequests(tx, withClaim.map(claimOf), kept_hours);
  for (const [i, step] of withClaim.entries()) {
    const result = claimed[i];
    if (result?.kind === "fresh") step.fresh = true;
    else if (result?.kind === "answered") step.repeat = true;
    else if (result?.kind === "same") step.sameAs = withClaim[result.position];
    else step.failure = requestIdReused();
  }
}

const spends = (step: OpenStep): boolean => step.item.limited && !step.repeat;

/** Locks the tokens that uses are to be spent of; answers the uses left. */
async function lock(tx: Queryable, steps: readonly Step[]): Promise<Map<string, number>> {
  const refs = steps.filter(isOpen).filter(spends).map(refOf);
  return lockLimited(tx, [...new Map(refs.map((ref) => [tokenKey(ref), ref])).values()]);
}

async function judge(tx: Queryable, steps: readonly Step[]): Promise<void> {
  const open = steps.filter(isOpen);
  if (open.length === 0) return;
  const states = await findStates(tx, [...new Map(open.map((step) => [tokenKey(refOf(step)), refOf(step)])).values()]);
  for (const step of open) {
    const state = states.get(tokenKey(refOf(step)));
    step.state = state;
    step.failure = state === undefined ? notFound("unknown") : judgeToken(step.job.call, state, step.item.purpose, true);
  }
}

async function spend(tx: Queryable, steps: readonly Step[], left: ReadonlyMap<string, number>): Promise<void> {
  const spent = new Map<string, TokenRef & { uses: number }>();
  for (const step of steps.filter(isOpen).filter(spends)) {
    const ref = refOf(step);
    const uses = spent.get(tokenKey(ref))?.uses ?? 0;
    if (uses < (left.get(tokenKey(ref)) ?? 0)) spent.set(tokenKey(ref), { ...ref, uses: uses + 1 });
    else step.failure = notFound("used up");
  }
  await spendUses(tx, [...spent.values()]);
}

function verdictOf(job: Job<readonly (RevealItem | FailedItem)[]>, steps: readonly Step[]): Verdict<readonly Judged[]> {
  job.call.resources = steps.map((step): Resource => {
    const { token } = step.item;
    return {
      ...(token === undefined ? {} : { token }),
      ...("failure" in step.item ? {} : { card: step.item.cardId }),
      outcome: step.failure === undefined ? "released" : isMalformed(step.failure) ? "malformed" : "failed",
      ...(step.failure === undefined ? (step.repeat || step.sameAs !== undefined ? { reason: "repeat" } : {}) : { reason: reasonOf(step.failure) }),
    };
  });
  const only = steps.length === 1 ? steps[0] : undefined;
  if (only?.failure instanceof Failure && job.call.rpc.endsWith("/Detokenize")) return { kind: "failed", failure: only.failure };
  const value = steps.map((step): Judged => ({ failure: step.failure, state: step.state ?? step.sameAs?.state }));
  if (value.some(({ failure }) => failure === undefined)) return { kind: "done", value, outcome: "released" };
  return { kind: "done", value, outcome: value.every(({ failure }) => isMalformed(failure)) ? "malformed" : "failed" };
}

function isMalformed(error: unknown): boolean {
  return error instanceof Failure && error.reason === "INVALID_FIELD";
}

function reasonOf(error: unknown): string {
  if (error instanceof Failure) return error.inner ?? error.reason;
  return error instanceof HsmError ? `hsm ${error.errorClass}` : "INTERNAL";
}
