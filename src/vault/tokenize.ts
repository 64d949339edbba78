import type { CommittedWriter } from "../audit/committed-writer.js";
import { Stale } from "../audit/work.js";
import { Batcher, type Settled } from "../batcher.js";
import type { Call } from "../call.js";
import type { Config } from "../config.js";
import { Failure } from "../failure.js";
import type { Database } from "../store/database.js";
import { findByFingerprint, type Fingerprint, fingerprintKey, type KnownCard } from "../store/fingerprints.js";
import { tokenizeKind } from "./tokenize-commit.js";
import { type PreparedItem, prepareItem, type TokenizeParts } from "./tokenize-prepare.js";
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
   * Tokenizes the items of one call; answers item by item, in order. One that is a Failure already stays one.
   * A call with one item that fails throws its Failure when the RPC is Tokenize, audited.
   * @throws Failure STORE_UNAVAILABLE, LIMIT, DENIED, ... for the call as a whole
   */
  async tokenize(call: Call, requests: readonly (TokenizeRequest | Failure)[]): Promise<Settled<TokenizeAnswer>[]> {
    const results: (Settled<TokenizeAnswer> | undefined)[] = requests.map((request) => (request instanceof Failure ? { ok: false, error: request } : undefined));
    let untold: unknown[] = requests.filter((request) => request instanceof Failure);
    for (let retry = 0; retry <= retries_max; retry++) {
      const open = requests.flatMap((request, i) => (results[i] === undefined && !(request instanceof Failure) ? [{ i, request }] : []));
      if (open.length === 0 && untold.length === 0) break;
      const prepared = await Promise.all(open.map(({ request }) => this.#prepare(call, request)));
      const ready: { readonly i: number; readonly item: PreparedItem }[] = [];
      for (const [at, { i }] of open.entries()) {
        const each = prepared[at];
        if (each?.ok === true) ready.push({ i, item: each.value });
        else if (each !== undefined) {
          results[i] = each;
          untold.push(each.error);
        }
      }
      // The one item of a Tokenize fails as the call, which the edge audits.
      if (ready.length === 0 && call.rpc.endsWith("/Tokenize")) break;
      if (await this.#commit(call, ready, untold, results)) untold = [];
    }
    return results.map((result) => result ?? { ok: false, error: new Failure("STORE_UNAVAILABLE", "too many tries; try again", { retryAfter_ms: 100 }) });
  }

  async #prepare(call: Call, request: TokenizeRequest): Promise<Settled<PreparedItem>> {
    try {
      return { ok: true, value: await prepareItem(this.#parts, call, request) };
    } catch (error) {
      if (error instanceof Failure && (error.reason === "STORE_UNAVAILABLE" || error.reason === "LIMIT")) throw error;
      return { ok: false, error };
    }
  }

  /** @returns whether an entry was committed; false: every item is stale */
  async #commit(
    call: Call,
    ready: readonly { readonly i: number; readonly item: PreparedItem }[],
    refused: readonly unknown[],
    results: (Settled<TokenizeAnswer> | undefined)[],
  ): Promise<boolean> {
    try {
      const answers = await this.#mutations.submit(this.#kind, call, { items: ready.map(({ item }) => item), refused });
      for (const [at, { i }] of ready.entries()) {
        const answer = answers[at];
        if (answer?.ok === true || !(answer?.error instanceof Stale)) results[i] = answer;
      }
      return true;
    } catch (error) {
      if (!(error instanceof Stale)) throw error;
      return false;
    }
  }
}
