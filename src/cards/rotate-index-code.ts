import { v7 as uuidv7 } from "uuid";
import type { WorkKind } from "../audit/work.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import { insertCodes, insertEvents, refKey, retireCodes, touchCards } from "../store/cards.js";
import { cardOf, type IndexedCard } from "./card.js";
import { type CardMutation, cardMutation } from "./card-mutation.js";

export interface RotateIndexCode extends CardMutation {
  readonly grace_s: number;
  /** Candidates for the new code, of the card's institution and brand. */
  readonly candidates: readonly string[];
}

export interface RotatedCode {
  readonly card: IndexedCard;
  readonly oldCodeExpiresAt_ms: number;
}

/** Gives cards new index codes. The old one answers until its grace period ends, then never again; its row stays, so that it is never reissued. */
export function rotateIndexCodeKind(kept_hours: number): WorkKind<RotateIndexCode, RotatedCode> {
  return cardMutation<RotateIndexCode, RotatedCode>("cards rotate-index-code", kept_hours, async (tx, cards) => {
    const refs = cards.map(({ card }) => ({ tenant: card.tenant, cardId: card.card_id }));
    const retired = await retireCodes(
      tx,
      cards.map(({ job, card }) => ({ tenant: card.tenant, cardId: card.card_id, grace_s: job.input.grace_s })),
    );
    const codes = await insertCodes(
      tx,
      cards.map(({ job, card }) => ({ tenant: card.tenant, cardId: card.card_id, candidates: job.input.candidates })),
    );
    if (codes.size < cards.length) throw new Failure("INTERNAL", "internal error", { inner: "every candidate of an index code is taken" });
    const touched = await touchCards(tx, refs);
    await insertEvents(
      tx,
      cards.map(({ job, card }) => ({
        eventId: uuidv7(),
        tenant: card.tenant,
        cardId: card.card_id,
        kind: "index-code" as const,
        detail: { by: job.call.principal.id },
      })),
    );
    return cards.map(({ job, card, indexCode }) => {
      const key = refKey({ tenant: card.tenant, cardId: card.card_id });
      const code = codes.get(key) as string;
      job.call.resources = [{ indexCode, card: card.card_id }, { indexCode: code, card: card.card_id, reason: "new" }];
      return {
        card: cardOf(touched.get(key) ?? card, code, clock.now()),
        oldCodeExpiresAt_ms: retired.get(key)?.expiresAt.getTime() ?? clock.now_ms(),
      };
    });
  });
}
