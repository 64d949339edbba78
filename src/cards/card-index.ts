import type { Hsm } from "../../hsm/hsm.js";
import type { RandomPool } from "../../hsm/random-pool.js";
import type { CommittedWriter } from "../audit/committed-writer.js";
import { Stale } from "../audit/work.js";
import { Batcher, type Settled } from "../batcher.js";
import type { Call, Resource } from "../call.js";
import { clock } from "../clock.js";
import type { Config } from "../config.js";
import { Failure, notFound } from "../failure.js";
import type { KeyRing } from "../keys/key-ring.js";
import { makeClaim } from "../keys/request-claim.js";
import { type CardKey, findCards, type FoundCard, type TenantKey } from "../store/cards.js";
import type { Database } from "../store/database.js";
import type { Claim } from "../store/requests.js";
import { cardOf, type IndexedCard } from "./card.js";
import type { StoredStatus } from "./card-status.js";
import { codeCandidates, newIndexCode } from "./index-code.js";
import type { Institutions } from "./institution.js";
import { type RotatedCode, rotateIndexCodeKind } from "./rotate-index-code.js";
import { setCardStatusKind } from "./set-card-status.js";

export interface CardIndexParts {
  readonly database: Database;
  readonly hsm: Hsm;
  readonly keys: KeyRing;
  readonly random: RandomPool;
  readonly institutions: Institutions;
  readonly mutations: CommittedWriter;
  readonly limits: Config["limits"];
}

/** A card as GetCard finds it. */
export interface CardAnswer {
  readonly card: IndexedCard;
  /** For a card asked by an old code: when that code ends. Its current code is not told then. */
  readonly oldCodeExpiresAt: Date | undefined;
}

const retries_max = 3;

/** The card index: what may be known of a card without its PAN. */
export class CardIndex {
  readonly #parts: CardIndexParts;
  readonly #lookups: Batcher<TenantKey, FoundCard | undefined>;
  readonly #setStatus;
  readonly #rotate;

  constructor(parts: CardIndexParts) {
    this.#parts = parts;
    this.#setStatus = setCardStatusKind(parts.limits.requestIdKept_hours);
    this.#rotate = rotateIndexCodeKind(parts.limits.requestIdKept_hours);
    this.#lookups = new Batcher({ name: "lookupQueue", batchSize_max: 1000, queue_max: parts.limits.lookupQueue, inFlight_max: 2 }, async (keys) => {
      const found = await findCards(parts.database, keys);
      return keys.map((_, i): Settled<FoundCard | undefined> => ({ ok: true, value: found.get(i) }));
    });
  }

  /** Looks cards up, item by item; all lookups waiting at this moment share one statement. Notes each in `call.resources`. */
  async getCards(call: Call, keys: readonly (CardKey | Failure)[]): Promise<Settled<CardAnswer>[]> {
    const answers = await Promise.all(
      keys.map(async (key): Promise<[Settled<CardAnswer>, Resource]> => {
        if (key instanceof Failure) return [{ ok: false, error: key }, { outcome: "malformed", reason: key.reason }];
        if (!(await this.mayBe(call, key))) return [{ ok: false, error: notFound("unknown") }, { outcome: "failed", reason: "unknown" }];
        const row = await this.find(call, key);
        if (row === undefined) return [{ ok: false, error: notFound("unknown") }, { ...key, outcome: "failed", reason: "unknown" }];
        const old = row.code_expires_at ?? undefined;
        const card = cardOf(row, old === undefined ? row.current_code : "", clock.now());
        return [{ ok: true, value: { card, oldCodeExpiresAt: old } }, { ...key, card: card.cardId, outcome: "done" }];
      }),
    );
    call.resources = answers.map(([, resource]) => resource);
    return answers.map(([answer]) => answer);
  }

  /** Whether a key may name a card of the caller's tenant. One that can't is unknown, and stands in no entry. @throws Failure STORE_UNAVAILABLE */
  async mayBe(call: Call, key: CardKey): Promise<boolean> {
    return !("indexCode" in key) || (await this.#parts.institutions.mayHave(call.principal.tenant, key.indexCode));
  }

  /** The row behind a key that may be one of the tenant, or nothing. */
  find(call: Call, key: CardKey): Promise<FoundCard | undefined> {
    return this.#lookups.submit({ tenant: call.principal.tenant, key });
  }

  /** @throws Failure NOT_FOUND, STATUS_TRANSITION, VERSION_MISMATCH, REQUEST_ID_REUSED */
  async setStatus(
    call: Call,
    input: { readonly key: CardKey; readonly requestId: string | undefined; readonly status: StoredStatus; readonly comment: string; readonly expectedVersion: number },
  ): Promise<IndexedCard> {
    if (!(await this.mayBe(call, input.key))) throw notFound("unknown");
    const claim = await this.#claim(call, input.requestId, JSON.stringify([input.key, input.status, input.comment, input.expectedVersion]));
    return retried(() => this.#parts.mutations.submit(this.#setStatus, call, { ...input, claim }));
  }

  /** @throws Failure NOT_FOUND, REQUEST_ID_REUSED */
  async rotateIndexCode(
    call: Call,
    input: { readonly key: CardKey; readonly requestId: string | undefined; readonly grace_s: number },
  ): Promise<RotatedCode> {
    if (!(await this.mayBe(call, input.key))) throw notFound("unknown");
    const claim = await this.#claim(call, input.requestId, JSON.stringify([input.key, input.grace_s]));
    return retried(async () => {
      const card = await this.find(call, input.key);
      // A repeat may name a code that has ended since: its claim has the answer.
      const candidates = card === undefined ? [] : await this.#candidates(call, card.brand);
      return this.#parts.mutations.submit(this.#rotate, call, { key: input.key, grace_s: input.grace_s, claim, candidates });
    });
  }

  async #candidates(call: Call, brand: number): Promise<string[]> {
    const institution = await this.#parts.institutions.of(call.principal.tenant);
    return Promise.all(Array.from({ length: codeCandidates }, () => newIndexCode(this.#parts.random, institution, brand)));
  }

  async #claim(call: Call, requestId: string | undefined, content: string): Promise<Claim | undefined> {
    return requestId === undefined ? undefined : makeClaim(this.#parts.hsm, this.#parts.keys, call, requestId, content);
  }
}

/** Does work again that was found stale, a few times. */
export async function retried<T>(work: () => Promise<T>): Promise<T> {
  for (let retry = 0; ; retry++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Stale) || retry >= retries_max) throw error;
    }
  }
}
