import type { Hsm } from "../../hsm/hsm.js";
import type { CommittedWriter } from "../audit/committed-writer.js";
import type { Verdict, WorkKind } from "../audit/work.js";
import type { Call } from "../call.js";
import { requestIdReused } from "../cards/card-mutation.js";
import type { Config } from "../config.js";
import { invalidField, notFound } from "../failure.js";
import type { KeyRing } from "../keys/key-ring.js";
import { makeClaim } from "../keys/request-claim.js";
import type { CardRef } from "../store/cards.js";
import type { Database } from "../store/database.js";
import { isMoment } from "../store/moment.js";
import { answerClaims, type Claim, claimRequests, dropClaims } from "../store/requests.js";
import { describeToken, findStates, listTokens, revokeTokens, type TokenDescription, tokenKey } from "../store/tokens.js";

interface Revocation {
  readonly token: string;
  readonly claim: Claim | undefined;
}

/** What a tenant may know and change of its tokens without a PAN: describe, list, revoke. */
export class TokenRecords {
  readonly #parts: { readonly database: Database; readonly hsm: Hsm; readonly keys: KeyRing; readonly mutations: CommittedWriter };
  readonly #revoke: WorkKind<Revocation, undefined>;

  constructor(parts: { readonly database: Database; readonly hsm: Hsm; readonly keys: KeyRing; readonly mutations: CommittedWriter; readonly limits: Config["limits"] }) {
    this.#parts = parts;
    this.#revoke = revokeKind(parts.limits.requestIdKept_hours);
  }

  /** @throws Failure NOT_FOUND if the tenant has no such token */
  async describe(call: Call, token: string): Promise<TokenDescription> {
    call.resources = [{ token }];
    const row = await describeToken(this.#parts.database, { tenant: call.principal.tenant, token });
    if (row === undefined) throw notFound("unknown");
    call.resources = [{ token, card: row.card_id }];
    return row;
  }

  /** One page of a card's tokens, newest first, and where the next begins. */
  async list(card: CardRef, scope: string, pageSize: number, pageToken: string): Promise<{ tokens: TokenDescription[]; next: string }> {
    const after = pageToken === "" ? undefined : readPageToken(pageToken);
    const rows = await listTokens(this.#parts.database, card, scope, after, pageSize + 1);
    const tokens = rows.slice(0, pageSize);
    const last = tokens.at(-1);
    const next = rows.length > pageSize && last !== undefined ? Buffer.from(JSON.stringify([last.created_at_exact, last.token])).toString("base64url") : "";
    return { tokens, next };
  }

  /** Ends a token for good; revoking it again changes nothing. @throws Failure NOT_FOUND, REQUEST_ID_REUSED */
  async revoke(call: Call, token: string, requestId: string | undefined): Promise<TokenDescription> {
    const claim = requestId === undefined ? undefined : await makeClaim(this.#parts.hsm, this.#parts.keys, call, requestId, token);
    await this.#parts.mutations.submit(this.#revoke, call, { token, claim });
    const row = await describeToken(this.#parts.database, { tenant: call.principal.tenant, token });
    if (row === undefined) throw notFound("unknown");
    return row;
  }
}

function readPageToken(text: string): { createdAt: string; token: string } {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    if (Array.isArray(value)) {
      const [createdAt, token] = value as unknown[];
      if (isMoment(createdAt) && typeof token === "string" && /^[a-z0-9_]{1,64}$/.test(token)) return { createdAt, token };
    }
  } catch {
    // Not JSON: answered below.
  }
  throw invalidField("page_token", "is not one that this server gave; start without it");
}

function revokeKind(kept_hours: number): WorkKind<Revocation, undefined> {
  return {
    name: "vault revoke",
    run: async (tx, jobs) => {
      const withClaim = jobs.filter((job) => job.input.claim !== undefined);
      const claimed = await claimRequests(
        tx,
        withClaim.map((job) => job.input.claim as Claim),
        kept_hours,
      );
      const first = new Map(withClaim.map((job, i) => [job, claimed[i]?.kind === "same" ? withClaim[claimed[i].position] : job]));
      const claimOf = new Map(withClaim.map((job, i) => [job, claimed[i]]));
      const isReused = (job: (typeof jobs)[number]): boolean => claimOf.get(first.get(job) ?? job)?.kind === "reused";
      const refOf = (job: (typeof jobs)[number]) => ({ tenant: job.call.principal.tenant, token: job.input.token });
      const known = await findStates(tx, jobs.map(refOf));
      const isKnown = (job: (typeof jobs)[number]): boolean => known.has(tokenKey(refOf(job)));
      await revokeTokens(
        tx,
        jobs.filter((job) => !isReused(job)).map(refOf),
      );
      const fresh = jobs.filter((job) => claimOf.get(job)?.kind === "fresh");
      await answerClaims(
        tx,
        fresh.filter(isKnown).map((job) => ({ claim: job.input.claim as Claim, answer: Buffer.alloc(0) })),
      );
      await dropClaims(
        tx,
        fresh.filter((job) => !isKnown(job)).map((job) => job.input.claim as Claim),
      );
      return jobs.map((job): Verdict<undefined> => {
        const row = known.get(tokenKey(refOf(job)));
        job.call.resources = [{ token: job.input.token, ...(row === undefined ? {} : { card: row.card_id }) }];
        if (isReused(job)) return { kind: "failed", failure: requestIdReused() };
        return row === undefined ? { kind: "failed", failure: notFound("unknown") } : { kind: "done", value: undefined, outcome: "done" };
      });
    },
  };
}
