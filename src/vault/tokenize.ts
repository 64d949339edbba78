import type { CommittedWriter } from "../audit/committed-writer.js";
import { Stale } from "../audit/work.js";
import { Batcher, type Settled } from "../batcher.js";
import type { Call } from "../call.js";
import type { Config } from "../config.js";
import { Failure } from "../failure.js";
import type { Database } from "../store/database.js";
import { findByFingerprint, type Fingerprint, fingerprintKey, type KnownCard } from "../store/fingerprints.js";
import { tokenizeKind } from "./tokenize-commit.js";
import { type FailedItem, type PreparedItem, prepareItem, type TokenizeParts } from "./tokenize-prepare.js";
import type { TokenizeAnswer, TokenizeRequest } from "./tokenize-request.js";

const retries_max = 4;

/** Tokenize: HSM work item by item, shared with all that wait; then one transaction, shared too. */
export class Tokenizer {
  readonly #parts: TokenizeParts;
  readonly #mutations: CommittedWriter;
  readonly #kind;

  constructor(parts: Omit<TokenizeParts, "byFingerprint"> & { readonly database: Database; readonly mutations: CommittedWriter; readonly limits: Config["limits"] }) {
    const { database, mutations, limits } = parts;
    this.#mutations = mutations;
    this.#kind = tokenizeKind(limits.requestIdKept_hours);
    const byFingerprint = new Batcher<Fingerprint, KnownCard | undefined>(
      { name: "lookupQueue", batchSize_max: 1000, queue_max: limits.lookupQueue, inFlight_max: 2 },
      async (prints) => {
        const cards = await findByFingerprint(database, prints);
        return prints.map((print): Settled<KnownCard | undefined> => ({ ok: true, value: cards.get(fingerprintKey(print)) }));
      },
    );
    this.#parts = { ...parts, byFingerprint };
  }

  /**
   * Tokenizes the items of one call; answers item by item, in order. One that is a Failure already stays one, and is audited in its place.
   * @throws Failure for the call as a whole: STORE_UNAVAILABLE, LIMIT, DENIED, and for a Tokenize of one PAN whatever that PAN's failure is
   */
  async tokenize(call: Call, requests: readonly (TokenizeRequest | Failure)[]): Promise<readonly Settled<TokenizeAnswer>[]> {
    for (let retry = 0; retry <= retries_max; retry++) {
      const newCards = new Map<string, string>();
      const items = await Promise.all(requests.map((request) => this.#prepare(call, request, newCards)));
      try {
        return await this.#mutations.submit(this.#kind, call, items);
      } catch (error) {
        if (!(error instanceof Stale)) throw error;
      }
    }
    throw new Failure("STORE_UNAVAILABLE", "the same cards keep arriving elsewhere; try again", { retryAfter_ms: 100, inner: "stale" });
  }

  async #prepare(call: Call, request: TokenizeRequest | Failure, newCards: Map<string, string>): Promise<PreparedItem | FailedItem> {
    if (request instanceof Failure) return { failure: request };
    try {
      return await prepareItem(this.#parts, call, request, newCards);
    } catch (error) {
      if (error instanceof Failure && (error.reason === "STORE_UNAVAILABLE" || error.reason === "LIMIT")) throw error;
      return { failure: error };
    }
  }
}
