import type { Job, Verdict, WorkKind } from "../audit/work.js";
import { Failure, notFound } from "../failure.js";
import { type CardKey, type CardRow, findCards, lockCards, refKey } from "../store/cards.js";
import type { Queryable } from "../store/database.js";
import { answerClaims, type Claim, type Claimed, claimRequests, dropClaims } from "../store/requests.js";

/** What every change to one card comes with. */
export interface CardMutation {
  readonly key: CardKey;
  readonly claim: Claim | undefined;
}

/** A mutation whose card was found and is locked. */
export interface LockedCard<I> {
  readonly job: Job<I>;
  readonly card: CardRow;
  /** The card's current index code. */
  readonly indexCode: string;
}

/**
 * A kind of work that changes one card a call: claims the request_id, finds and locks the card, lets `act` change it, keeps the answer.
 * A repeat gets the kept answer; a failure is not kept. Two changes of one card in one batch run one after the other.
 * @param act changes all of the given cards (each is another card), and answers each with a JSON value or a Failure
 */
export function cardMutation<I extends CardMutation, A extends object>(
  name: string,
  kept_hours: number,
  act: (tx: Queryable, cards: readonly LockedCard<I>[]) => Promise<readonly (A | Failure)[]>,
): WorkKind<I, A> {
  return {
    name,
    run: async (tx, jobs) => {
      const claims = await claimEach(tx, jobs, kept_hours);
      const results = new Map<Job<I>, A | Failure>();
      const found = await findCards(
        tx,
        jobs.map((job) => ({ tenant: job.call.principal.tenant, key: job.input.key })),
      );
      let open: LockedCard<I>[] = [];
      for (const [position, job] of jobs.entries()) {
        const claimed = claims.get(job);
        const card = found.get(position);
        job.call.resources = [{ ...job.input.key, ...(card === undefined ? {} : { card: card.card_id }) }];
        if (claimed?.kind === "answered") results.set(job, JSON.parse(claimed.answer.toString("utf8")) as A);
        else if (claimed?.kind === "reused") results.set(job, requestIdReused());
        else if (card === undefined) results.set(job, notFound("unknown"));
        else if (claimed?.kind !== "same") open.push({ job, card, indexCode: card.current_code });
      }
      while (open.length > 0) {
        const [turn, later] = onePerCard(open);
        for (const [job, result] of await actOnLocked(tx, turn, act)) results.set(job, result);
        open = later;
      }
      await keepAnswers(tx, jobs, claims, results);
      return jobs.map((job): Verdict<A> => {
        const claimed = claims.get(job);
        const first = claimed?.kind === "same" ? jobs[claimed.position] : job;
        return verdictOf(first === undefined ? undefined : results.get(first));
      });
    },
  };
}

/** The Failure for a request_id that was used with another request. */
export function requestIdReused(): Failure {
  return new Failure("REQUEST_ID_REUSED", "request_id was used in the last 24 hours with another request; use a new one");
}

async function claimEach<I extends CardMutation>(tx: Queryable, jobs: readonly Job<I>[], kept_hours: number): Promise<Map<Job<I>, Claimed>> {
  const withClaim = jobs.filter((job) => job.input.claim !== undefined);
  const claimed = await claimRequests(
    tx,
    withClaim.map((job) => job.input.claim as Claim),
    kept_hours,
  );
  return new Map(
    withClaim.map((job, i): [Job<I>, Claimed] => {
      const result = claimed[i] as Claimed;
      // Positions of `same` are those in the list of claims; callers want those in the list of jobs.
      return [job, result.kind === "same" ? { kind: "same", position: jobs.indexOf(withClaim[result.position] as Job<I>) } : result];
    }),
  );
}

function onePerCard<I>(cards: readonly LockedCard<I>[]): [LockedCard<I>[], LockedCard<I>[]] {
  const seen = new Set<string>();
  const turn: LockedCard<I>[] = [];
  const later: LockedCard<I>[] = [];
  for (const each of cards) {
    const key = refKey({ tenant: each.card.tenant, cardId: each.card.card_id });
    (seen.has(key) ? later : turn).push(each);
    seen.add(key);
  }
  return [turn, later];
}

/**
 * Locks the cards and acts on them. The key that named a card is looked up once more under the lock: a code that another rotation ended
 * meanwhile names it no longer.
 */
async function actOnLocked<I extends CardMutation, A>(
  tx: Queryable,
  turn: readonly LockedCard<I>[],
  act: (tx: Queryable, cards: readonly LockedCard<I>[]) => Promise<readonly (A | Failure)[]>,
): Promise<[Job<I>, A | Failure][]> {
  const locked = await lockCards(
    tx,
    turn.map(({ card }) => ({ tenant: card.tenant, cardId: card.card_id })),
  );
  const found = await findCards(
    tx,
    turn.map(({ job, card }) => ({ tenant: card.tenant, key: job.input.key })),
  );
  const results: [Job<I>, A | Failure][] = [];
  const standing = turn.flatMap((each, i): LockedCard<I>[] => {
    const now = found.get(i);
    const card = locked.get(refKey({ tenant: each.card.tenant, cardId: each.card.card_id }));
    if (now !== undefined && card !== undefined) return [{ ...each, card, indexCode: now.current_code }];
    results.push([each.job, notFound("ended meanwhile")]);
    return [];
  });
  const answers = standing.length === 0 ? [] : await act(tx, standing);
  return [...results, ...standing.map((each, i): [Job<I>, A | Failure] => [each.job, answers[i] as A | Failure])];
}

async function keepAnswers<I extends CardMutation, A>(
  tx: Queryable,
  jobs: readonly Job<I>[],
  claims: ReadonlyMap<Job<I>, Claimed>,
  results: ReadonlyMap<Job<I>, A | Failure>,
): Promise<void> {
  const fresh = jobs.filter((job) => claims.get(job)?.kind === "fresh");
  const failed = fresh.filter((job) => results.get(job) instanceof Failure);
  await answerClaims(
    tx,
    fresh.flatMap((job) => {
      const answer = results.get(job);
      return answer instanceof Failure ? [] : [{ claim: job.input.claim as Claim, answer: Buffer.from(JSON.stringify(answer), "utf8") }];
    }),
  );
  await dropClaims(
    tx,
    failed.map((job) => job.input.claim as Claim),
  );
}

function verdictOf<A>(result: A | Failure | undefined): Verdict<A> {
  if (result === undefined) return { kind: "stale" };
  if (result instanceof Failure) return { kind: "failed", failure: result };
  return { kind: "done", value: result, outcome: "done" };
}
