import { type Hsm, HsmError } from "../../hsm/hsm.js";
import type { CommittedWriter } from "../audit/committed-writer.js";
import { Batcher, type Settled } from "../batcher.js";
import type { Call } from "../call.js";
import { type CardStatus, shownStatus, type StoredStatus } from "../cards/card-status.js";
import { type Expiry, expiryOf } from "../cards/expiry.js";
import { clock } from "../clock.js";
import type { Config } from "../config.js";
import { Failure, notFound } from "../failure.js";
import type { KeyRing } from "../keys/key-ring.js";
import { makeClaim } from "../keys/request-claim.js";
import type { Database } from "../store/database.js";
import { findSecrets, tokenKey, type TokenRef, type TokenSecret } from "../store/tokens.js";
import { judgeToken, type RevealItem, revealKind } from "./reveal-commit.js";
import { associatedData, type CardSecret, decodeSecret, unpackSealed } from "./sealed-card.js";

export interface DetokenizeItem {
  readonly token: string;
  readonly requestId: string | undefined;
}

/** A PAN that may leave: its audit entry is committed. */
export interface Revealed {
  readonly secret: CardSecret;
  readonly expiry: Expiry;
  readonly status: CardStatus;
}

/** A token found, judged and decrypted; nothing has left yet. */
interface Opened {
  readonly item: RevealItem;
  readonly secret: CardSecret;
  readonly row: TokenSecret;
}

/** Detokenize, as architecture.md tells the way: look-up, HSM, committed audit entry, answer. */
export class Detokenizer {
  readonly #hsm: Hsm;
  readonly #keys: KeyRing;
  readonly #reveals: CommittedWriter;
  readonly #lookups: Batcher<TokenRef, TokenSecret | undefined>;
  readonly #kind;
  readonly #onIntegrity: (facts: Record<string, string>) => void;

  /** @param parts.onIntegrity alerts: a stored ciphertext does not verify */
  constructor(parts: {
    readonly hsm: Hsm;
    readonly keys: KeyRing;
    readonly database: Database;
    readonly reveals: CommittedWriter;
    readonly limits: Config["limits"];
    readonly onIntegrity: (facts: Record<string, string>) => void;
  }) {
    this.#hsm = parts.hsm;
    this.#keys = parts.keys;
    this.#reveals = parts.reveals;
    this.#onIntegrity = parts.onIntegrity;
    this.#kind = revealKind(parts.limits.requestIdKept_hours);
    this.#lookups = new Batcher({ name: "lookupQueue", batchSize_max: 1000, queue_max: parts.limits.lookupQueue, inFlight_max: 2 }, async (tokens) => {
      const found = await findSecrets(parts.database, tokens);
      return tokens.map((token): Settled<TokenSecret | undefined> => ({ ok: true, value: found.get(tokenKey(token)) }));
    });
  }

  /**
   * Reveals the PANs of one call's tokens; answers item by item, in order. One that is a Failure already stays one.
   * @param purpose the call's, without its prefix
   * @throws Failure for the call as a whole: STORE_UNAVAILABLE (no PAN leaves), LIMIT, DENIED, and for a Detokenize of one token
   *   whatever that token's failure is
   */
  async detokenize(call: Call, purpose: string, items: readonly (DetokenizeItem | Failure)[]): Promise<Settled<Revealed>[]> {
    // Whatever becomes of the call, its entry names what was asked for.
    call.resources = items.map((item) => (item instanceof Failure ? {} : { token: item.token }));
    const opened = await Promise.all(items.map((item) => (item instanceof Failure ? Promise.resolve(failed(item)) : this.#open(call, purpose, item))));
    const answers = await this.#reveals.submit(
      this.#kind,
      call,
      opened.map((each, i) => (each.ok ? each.value.item : { failure: each.error, token: tokenOf(items[i]) })),
    );
    return opened.map((each, i): Settled<Revealed> => {
      const answer = answers[i];
      if (!each.ok) return each;
      if (answer === undefined || answer.failure !== undefined) return failed(answer?.failure);
      const { secret, row } = each.value;
      // As the transaction judged them: the look-up before it may be old by then.
      const judged = answer.state ?? row;
      const expiry = expiryOf(judged.expiry);
      return { ok: true, value: { secret, expiry, status: shownStatus(judged.status as StoredStatus, expiry, clock.now()) } };
    });
  }

  /** Look-up, judgement, decryption of one token. Failures of the store are everybody's. */
  async #open(call: Call, purpose: string, item: DetokenizeItem): Promise<Settled<Opened>> {
    const { tenant } = call.principal;
    try {
      const row = await this.#lookups.submit({ tenant, token: item.token });
      if (row === undefined) throw notFound("unknown");
      const refusal = judgeToken(call, row, purpose, item.requestId !== undefined);
      if (refusal !== undefined) throw refusal;
      const content = JSON.stringify([item.token, purpose]);
      const [secret, claim] = await Promise.all([
        this.#decrypt(row),
        item.requestId === undefined ? undefined : makeClaim(this.#hsm, this.#keys, call, item.requestId, content),
      ]);
      return { ok: true, value: { item: { token: item.token, cardId: row.card_id, purpose, limited: row.uses_max > 0, claim }, secret, row } };
    } catch (error) {
      if (error instanceof Failure && (error.reason === "STORE_UNAVAILABLE" || error.reason === "LIMIT")) throw error;
      return failed(error);
    }
  }

  async #decrypt(row: TokenSecret): Promise<CardSecret> {
    // A key that does not verify raises its own alert, and no card is to blame.
    const key = await this.#keys.pan(row.tenant, row.pan_key_version);
    try {
      const { keyVersion, encrypted } = unpackSealed(row.sealed);
      if (keyVersion !== row.pan_key_version) throw new Failure("INTEGRITY", "a stored card does not verify; operators were alerted", { inner: "key version" });
      const plain = await this.#hsm.decrypt(key, encrypted, associatedData(row.tenant, row.card_id, keyVersion));
      const secret = decodeSecret(plain);
      plain.fill(0);
      return secret;
    } catch (error) {
      const isIntegrity = (error instanceof HsmError && error.errorClass === "integrity") || (error instanceof Failure && error.reason === "INTEGRITY");
      if (!isIntegrity) throw error;
      this.#onIntegrity({ tenant: row.tenant, card: row.card_id });
      throw new Failure("INTEGRITY", "a stored card does not verify; operators were alerted", { cause: error, inner: "ciphertext" });
    }
  }
}

function failed(error: unknown): { readonly ok: false; readonly error: unknown } {
  return { ok: false, error };
}

function tokenOf(item: DetokenizeItem | Failure | undefined): string | undefined {
  return item === undefined || item instanceof Failure ? undefined : item.token;
}
