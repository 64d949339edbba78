import type { Job, Verdict, WorkKind } from "../audit/work.js";
import type { Call, Resource } from "../call.js";
import { requestIdReused } from "../cards/card-mutation.js";
import { checkRelease, type StoredStatus } from "../cards/card-status.js";
import { Failure, notFound } from "../failure.js";
import type { Queryable } from "../store/database.js";
import { answerClaims, type Claim, claimRequests, dropClaims } from "../store/requests.js";
import { findStates, lockLimited, spendUses, tokenKey, type TokenState } from "../store/tokens.js";

/** A token whose PAN is decrypted and waits for its audit entry; or one that has failed already and is only audited. */
export interface RevealItem {
  readonly token: string;
  readonly cardId: string;
  readonly purpose: string;
  readonly claim: Claim | undefined;
}

export interface FailedItem {
  readonly failure: unknown;
  /** Only where it was well-formed. */
  readonly token: string | undefined;
}

interface Step {
  readonly job: Job<readonly (RevealItem | FailedItem)[]>;
  readonly item: RevealItem | FailedItem;
  failure: unknown;
  /** Spends no use: its request_id has spent one already. */
  repeat: boolean;
  fresh: boolean;
  /** The key of the limited token that it needs a use of. */
  needs: string | undefined;
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
 * tokens are spent (k occurrences need k); request_ids are claimed, so that a repeat spends nothing. Answers, item by item, why the
 * PAN must not leave, or undefined.
 */
export function revealKind(kept_hours: number): WorkKind<readonly (RevealItem | FailedItem)[], readonly unknown[]> {
  return {
    name: "vault reveal",
    run: async (tx, jobs) => {
      const steps = jobs.flatMap((job) =>
        job.input.map((item): Step => ({ job, item, failure: "failure" in item ? item.failure : undefined, repeat: false, fresh: false, needs: undefined })),
      );
      await claim(tx, steps, kept_hours);
      await judge(tx, steps);
      await spend(tx, steps);
      const fresh = steps.filter((step) => step.fresh);
      await answerClaims(
        tx,
        fresh.filter((step) => step.failure === undefined).map((step) => ({ claim: claimOf(step), answer: Buffer.alloc(0) })),
      );
      await dropClaims(tx, fresh.filter((step) => step.failure !== undefined).map(claimOf));
      return jobs.map((job) =>
        verdictOf(
          job,
          steps.filter((step) => step.job === job),
        ),
      );
    },
  };
}

const isOpen = (step: Step): step is Step & { item: RevealItem } => step.failure === undefined && !("failure" in step.item);

const claimOf = (step: Step): Claim => (step.item as RevealItem).claim as Claim;

async function claim(tx: Queryable, steps: readonly Step[], kept_hours: number): Promise<void> {
  const withClaim = steps.filter(isOpen).filter((step) => step.item.claim !== undefined);
  const claimed = await claimRequests(tx, withClaim.map(claimOf), kept_hours);
  for (const [i, step] of withClaim.entries()) {
    const result = claimed[i];
    if (result?.kind === "reused") step.failure = requestIdReused();
    else if (result?.kind === "fresh") step.fresh = true;
    else step.repeat = true;
  }
}

async function judge(tx: Queryable, steps: readonly Step[]): Promise<void> {
  const open = steps.filter(isOpen);
  if (open.length === 0) return;
  const refOf = (step: Step & { item: RevealItem }) => ({ tenant: step.job.call.principal.tenant, token: step.item.token });
  const unique = [...new Map(open.map((step) => [tokenKey(refOf(step)), refOf(step)])).values()];
  const states = await findStates(tx, unique);
  for (const step of open) {
    const state = states.get(tokenKey(refOf(step)));
    step.failure = state === undefined ? notFound("unknown") : judgeToken(step.job.call, state, step.item.purpose, true);
    if (state !== undefined && state.uses_max > 0 && !step.repeat) step.needs = tokenKey(refOf(step));
  }
}

async function spend(tx: Queryable, steps: readonly Step[]): Promise<void> {
  const spending = steps.filter(isOpen).filter((step) => step.needs !== undefined);
  const refs = new Map(spending.map((step) => [step.needs as string, { tenant: step.job.call.principal.tenant, token: step.item.token }]));
  const left = await lockLimited(tx, [...refs.values()]);
  const uses = new Map<string, number>();
  for (const step of spending) {
    const key = step.needs as string;
    const spent = uses.get(key) ?? 0;
    if (spent < (left.get(key) ?? 0)) uses.set(key, spent + 1);
    else step.failure = notFound("used up");
  }
  await spendUses(
    tx,
    [...uses].map(([key, count]) => ({ ...(refs.get(key) as { tenant: string; token: string }), uses: count })),
  );
}

function verdictOf(job: Job<readonly (RevealItem | FailedItem)[]>, steps: readonly Step[]): Verdict<readonly unknown[]> {
  job.call.resources = steps.map((step): Resource => {
    const { token } = step.item;
    return {
      ...(token === undefined ? {} : { token }),
      ...("failure" in step.item ? {} : { card: step.item.cardId }),
      outcome: step.failure === undefined ? "released" : "failed",
      ...(step.failure === undefined ? (step.repeat ? { reason: "repeat" } : {}) : { reason: reasonOf(step.failure) }),
    };
  });
  const only = steps.length === 1 ? steps[0] : undefined;
  if (only?.failure instanceof Failure && job.call.rpc.endsWith("/Detokenize")) return { kind: "failed", failure: only.failure };
  const released = steps.some((step) => step.failure === undefined);
  return { kind: "done", value: steps.map((step) => step.failure), outcome: released ? "released" : "failed" };
}

function reasonOf(error: unknown): string {
  if (error instanceof Failure) return error.inner ?? error.reason;
  return error instanceof Error ? error.name : "INTERNAL";
}
