import { v7 as uuidv7 } from "uuid";
import { HsmError } from "../../hsm/hsm.js";
import { type Job, Stale, type Verdict, type WorkKind } from "../audit/work.js";
import type { Settled } from "../batcher.js";
import type { Resource } from "../call.js";
import { maskedOf } from "../cards/card.js";
import { requestIdReused } from "../cards/card-mutation.js";
import { checkTokenize, type StoredStatus } from "../cards/card-status.js";
import { expiryNumber } from "../cards/expiry.js";
import { Failure } from "../failure.js";
import { type CardEvent, insertCodes, insertEvents, refKey } from "../store/cards.js";
import type { Queryable } from "../store/database.js";
import { findByFingerprint, fingerprintKey, insertCards, type KnownCard, setLaterExpiries, setSealed } from "../store/fingerprints.js";
import { answerClaims, claimRequests, dropClaims } from "../store/requests.js";
import { insertTokens } from "../store/tokens.js";
import { type FailedItem, isLater, type PreparedItem } from "./tokenize-prepare.js";
import type { TokenizeAnswer } from "./tokenize-request.js";

/** What one call brings to the transaction. */
export interface TokenizeWork {
  readonly items: readonly PreparedItem[];
  /** Why other items of the call never came so far; for the entry only. */
  readonly refused: readonly unknown[];
}

type Item = PreparedItem | FailedItem;

/** A prepared item of some job, on its way through the transaction. */
interface Step {
  readonly job: Job<readonly Item[]>;
  readonly item: PreparedItem;
  result: Settled<TokenizeAnswer> | undefined;
  /** The answer is that of this earlier step, which has the same request_id. */
  sameAs: Step | undefined;
  fresh: boolean;
  repeat: boolean;
}

const settledError = (error: unknown): Settled<never> => ({ ok: false, error });

/**
 * The transaction of Tokenize, over all items of all calls that wait: request_ids are claimed, cards found or inserted, expiries moved
 * forward, index codes and tokens inserted, events written, answers kept. A call of which an item was prepared for another card than
 * it turns out to be (the same PAN arrived elsewhere meanwhile, and its name must be sealed for that card) is stale as a whole.
 */
export function tokenizeKind(kept_hours: number): WorkKind<readonly Item[], readonly Settled<TokenizeAnswer>[]> {
  return {
    name: "vault tokenize",
    run: async (tx, jobs) => {
      const byJob = jobs.map((job) =>
        job.input.map((item): Step | FailedItem => ("failure" in item ? item : { job, item, result: undefined, sameAs: undefined, fresh: false, repeat: false })),
      );
      const steps = byJob.flat().filter((each): each is Step => !("failure" in each));
      await claim(tx, steps, kept_hours);
      await setStaleAside(tx, steps);
      const cards = await findOrInsert(tx, open(steps));
      await insertTokensOf(tx, open(steps), cards);
      await finish(tx, steps);
      for (const step of steps) if (step.sameAs !== undefined) step.result = step.sameAs.result;
      return jobs.map((job, i) => verdictOf(job, byJob[i] ?? []));
    },
  };
}

const open = (steps: readonly Step[]): Step[] => steps.filter((step) => step.result === undefined && step.sameAs === undefined);

async function claim(tx: Queryable, steps: readonly Step[], kept_hours: number): Promise<void> {
  const withClaim = steps.flatMap((step) => (step.item.claim === undefined ? [] : [{ step, claim: step.item.claim }]));
  const claimed = await claimRequests(
    tx,
    withClaim.map((each) => each.claim),
    kept_hours,
  );
  for (const [i, { step }] of withClaim.entries()) {
    const result = claimed[i];
    if (result?.kind === "answered") {
      step.result = { ok: true, value: JSON.parse(result.answer.toString("utf8")) as TokenizeAnswer };
      step.repeat = true;
    } else if (result?.kind === "reused") step.result = settledError(requestIdReused());
    else if (result?.kind === "same") step.sameAs = withClaim[result.position]?.step;
    else step.fresh = true;
  }
}

/**
 * Finds the calls with an item whose name is sealed for another card than the PAN has by now, before anything is written for them:
 * a card that another server made since the item was prepared, or one that an earlier call of this batch is about to make.
 */
async function setStaleAside(tx: Queryable, steps: readonly Step[]): Promise<void> {
  const fresh = open(steps).filter(({ item }) => !item.known);
  const made = await findByFingerprint(
    tx,
    fresh.map(({ item }) => item.fingerprint),
  );
  const cardIds = new Map([...made].map(([key, card]) => [key, card.card_id]));
  const stale = new Set<Step["job"]>();
  const byJob = new Map<Step["job"], Step[]>();
  for (const step of fresh) if (!byJob.get(step.job)?.push(step)) byJob.set(step.job, [step]);
  for (const [job, items] of byJob) {
    const isStale = items.some(({ item }) => item.request.name !== "" && (cardIds.get(fingerprintKey(item.fingerprint)) ?? item.cardId) !== item.cardId);
    if (!isStale) {
      for (const { item } of items) if (!cardIds.has(fingerprintKey(item.fingerprint))) cardIds.set(fingerprintKey(item.fingerprint), item.cardId);
      continue;
    }
    stale.add(job);
  }
  // Who waits for the answer of a call that is set aside is set aside with it, before anything is written for the rest of its batch.
  for (let before = -1; before !== stale.size; ) {
    before = stale.size;
    for (const { job, sameAs } of steps) if (sameAs !== undefined && stale.has(sameAs.job)) stale.add(job);
  }
  for (const step of steps) if (stale.has(step.job)) step.result = settledError(new Stale("a card was made meanwhile"));
}

/** Another server made the card between two statements of this transaction: it runs again, and sees it. */
class CardRace extends Error {
  /** As a serialization failure, which is retried. */
  readonly code = "40001";
}

/** Every open item gets its card, or a result that says why not. */
async function findOrInsert(tx: Queryable, steps: readonly Step[]): Promise<Map<Step, KnownCard>> {
  const free = await insertCards(tx, firstOfEachPrint(steps.filter(({ item }) => !item.known && item.form !== undefined)));
  await insertIndexCodes(tx, steps, free);
  const known = await findByFingerprint(
    tx,
    steps.map(({ item }) => item.fingerprint),
  );
  const cards = new Map<Step, KnownCard>();
  const refusals = new Map<string, unknown>();
  for (const step of steps) {
    const card = known.get(fingerprintKey(step.item.fingerprint));
    if (card === undefined || (card.card_id !== step.item.cardId && step.item.request.name !== "")) throw new CardRace("the card is another");
    const refusal = refusalOf(card, refusals);
    if (refusal !== undefined) step.result = settledError(refusal);
    else cards.set(step, card);
  }
  await setSealed(tx, lastNameOfEach(open(steps), free));
  await moveExpiries(tx, open(steps), cards);
  await announceNew(tx, open(steps), free);
  return cards;
}

function firstOfEachPrint(steps: readonly Step[]): Parameters<typeof insertCards>[1] {
  const first = new Map<string, Step>();
  for (const step of steps) {
    const key = fingerprintKey(step.item.fingerprint);
    if (!first.has(key)) first.set(key, step);
  }
  return [...first.values()].map(({ item }) => ({
    tenant: item.fingerprint.tenant,
    cardId: item.cardId,
    fingerprint: item.fingerprint.fingerprint,
    fingerprintVersion: item.fingerprint.version,
    sealed: item.form?.sealed as Buffer,
    panKeyVersion: item.form?.panKeyVersion as number,
    bin: item.masked.bin,
    lastFour: item.masked.lastFour,
    panLength: item.masked.panLength,
    brand: item.masked.brand,
    type: item.masked.type,
    country: item.masked.country,
    expiry: expiryNumber(item.request.expiry),
  }));
}

async function insertIndexCodes(tx: Queryable, steps: readonly Step[], free: ReadonlySet<string>): Promise<void> {
  const fresh = madeBy(steps, free);
  if (fresh.length === 0) return;
  const codes = await insertCodes(
    tx,
    fresh.map(({ item }) => ({ tenant: item.fingerprint.tenant, cardId: item.cardId, candidates: item.codes })),
  );
  if (codes.size < fresh.length) throw new Failure("INTERNAL", "internal error", { inner: "every candidate of an index code is taken" });
}

/** The steps whose cards this transaction made: the first of each free fingerprint. */
function madeBy(steps: readonly Step[], free: ReadonlySet<string>): Step[] {
  const seen = new Set<string>();
  return steps.filter(({ item }) => {
    const key = fingerprintKey(item.fingerprint);
    return !item.known && free.has(key) && !seen.has(key) && seen.add(key) !== undefined;
  });
}

function refusalOf(card: KnownCard, refusals: Map<string, unknown>): unknown {
  const key = refKey({ tenant: card.tenant, cardId: card.card_id });
  if (!refusals.has(key)) {
    try {
      checkTokenize(card.status as StoredStatus);
      refusals.set(key, undefined);
    } catch (error) {
      refusals.set(key, error);
    }
  }
  return refusals.get(key);
}

/** Known cards whose name is given anew; the last one given stands. */
function lastNameOfEach(steps: readonly Step[], free: ReadonlySet<string>): Parameters<typeof setSealed>[1] {
  const made = new Set(madeBy(steps, free));
  const changes = steps.flatMap((step) => {
    const { form, request, fingerprint, cardId } = step.item;
    return form === undefined || request.name === "" || made.has(step) ? [] : [{ tenant: fingerprint.tenant, cardId, ...form }];
  });
  return [...new Map(changes.map((change) => [refKey(change), change])).values()];
}

async function moveExpiries(tx: Queryable, steps: readonly Step[], cards: ReadonlyMap<Step, KnownCard>): Promise<void> {
  const latest = new Map<string, { tenant: string; cardId: string; expiry: number; by: string }>();
  for (const step of steps) {
    const card = cards.get(step);
    if (card === undefined || !isLater(step.item, card.expiry)) continue;
    const ref = { tenant: card.tenant, cardId: card.card_id };
    const expiry = expiryNumber(step.item.request.expiry);
    if (expiry > (latest.get(refKey(ref))?.expiry ?? 0)) latest.set(refKey(ref), { ...ref, expiry, by: step.job.call.principal.id });
  }
  const changed = await setLaterExpiries(tx, [...latest.values()]);
  await insertEvents(
    tx,
    [...changed].map((key): CardEvent => {
      const change = latest.get(key) as { tenant: string; cardId: string; expiry: number; by: string };
      return { ...change, eventId: uuidv7(), kind: "expiry", detail: { to: change.expiry, by: change.by } };
    }),
  );
  for (const step of steps) {
    const card = cards.get(step);
    const change = card === undefined ? undefined : latest.get(refKey({ tenant: card.tenant, cardId: card.card_id }));
    if (card !== undefined && change !== undefined && change.expiry > card.expiry) (cards as Map<Step, KnownCard>).set(step, { ...card, expiry: change.expiry });
  }
}

async function announceNew(tx: Queryable, steps: readonly Step[], free: ReadonlySet<string>): Promise<void> {
  await insertEvents(
    tx,
    madeBy(steps, free).map(
      ({ job, item }): CardEvent => ({
        tenant: item.fingerprint.tenant,
        cardId: item.cardId,
        eventId: uuidv7(),
        kind: "created",
        detail: { by: job.call.principal.id },
      }),
    ),
  );
}

async function insertTokensOf(tx: Queryable, steps: readonly Step[], cards: ReadonlyMap<Step, KnownCard>): Promise<void> {
  if (steps.length === 0) return;
  const made = new Set<string>();
  const tokens = await insertTokens(
    tx,
    steps.map(({ job, item: { request, tokens: candidates } }, i) => {
      const card = cards.get(steps[i] as Step) as KnownCard;
      return {
        tenant: card.tenant,
        cardId: card.card_id,
        candidates,
        format: request.format,
        keepLastFour: request.keepLastFour,
        scope: request.scope,
        reused: request.reused,
        externalReference: request.externalReference,
        createdBy: job.call.principal.id,
        ttl_s: request.ttl_s ?? null,
        uses_max: request.uses_max,
      };
    }),
  );
  for (const [i, step] of steps.entries()) {
    const card = cards.get(step) as KnownCard;
    const token = tokens[i];
    if (token === undefined) {
      step.result = settledError(new Failure("INTERNAL", "internal error", { inner: "every candidate of a token is taken" }));
      continue;
    }
    const cardKnown = card.card_id !== step.item.cardId || step.item.known || made.has(card.card_id);
    made.add(card.card_id);
    step.result = {
      ok: true,
      value: {
        token: token.token,
        indexCode: card.index_code,
        cardId: card.card_id,
        masked: maskedOf(card),
        cardKnown,
        expiresAt_ms: token.expiresAt?.getTime() ?? null,
      },
    };
  }
}

async function finish(tx: Queryable, steps: readonly Step[]): Promise<void> {
  const fresh = steps.flatMap((step) => (step.fresh && step.item.claim !== undefined ? [{ claim: step.item.claim, result: step.result }] : []));
  await answerClaims(
    tx,
    fresh.flatMap(({ claim: of, result }) => (result?.ok === true ? [{ claim: of, answer: Buffer.from(JSON.stringify(result.value), "utf8") }] : [])),
  );
  await dropClaims(
    tx,
    fresh.flatMap(({ claim: of, result }) => (result?.ok === true ? [] : [of])),
  );
}

/** One item alone fails as a call; items of a batch fail in their places. */
function verdictOf(job: Step["job"], items: readonly (Step | FailedItem)[]): Verdict<readonly Settled<TokenizeAnswer>[]> {
  const results = items.map((each) => ("failure" in each ? settledError(each.failure) : (each.result ?? settledError(new Stale("no result")))));
  if (results.some((result) => !result.ok && result.error instanceof Stale)) return { kind: "stale" };
  job.call.resources = results.map((result, i) => resourceOf(result, items[i]));
  const only = results.length === 1 ? results[0] : undefined;
  if (only?.ok === false && only.error instanceof Failure && job.call.rpc.endsWith("/Tokenize")) return { kind: "failed", failure: only.error };
  if (results.some((result) => result.ok)) return { kind: "done", value: results, outcome: "done" };
  return { kind: "done", value: results, outcome: job.call.resources.every(({ outcome }) => outcome === "malformed") ? "malformed" : "failed" };
}

function resourceOf(result: Settled<TokenizeAnswer>, item: Step | FailedItem | undefined): Resource {
  if (result.ok) {
    const { token, indexCode, cardId: card } = result.value;
    const repeat = item !== undefined && !("failure" in item) && (item.repeat || item.sameAs !== undefined);
    return { token, indexCode, card, outcome: "done", ...(repeat ? { reason: "repeat" } : {}) };
  }
  if (!(result.error instanceof Failure)) return { outcome: "failed", reason: result.error instanceof HsmError ? `hsm ${result.error.errorClass}` : "INTERNAL" };
  const { inner, reason } = result.error;
  return { outcome: reason === "INVALID_FIELD" ? "malformed" : "failed", reason: inner ?? reason };
}
