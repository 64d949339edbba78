import { v7 as uuidv7 } from "uuid";
import type { WorkKind } from "../audit/work.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import { insertEvents, refKey, setStatuses } from "../store/cards.js";
import { cardOf, type IndexedCard } from "./card.js";
import { type CardMutation, cardMutation } from "./card-mutation.js";
import { checkTransition, statusName, type StoredStatus } from "./card-status.js";

export interface SetCardStatus extends CardMutation {
  readonly status: StoredStatus;
  readonly comment: string;
  /** 0: whatever it is */
  readonly expectedVersion: number;
}

/**
 * Changes the status of cards, as product.md's transitions allow. Locked rows, one commit: whoever looks a card up after that, on any
 * server, sees the new status.
 */
export function setCardStatusKind(kept_hours: number): WorkKind<SetCardStatus, IndexedCard> {
  return cardMutation<SetCardStatus, IndexedCard>("cards set-status", kept_hours, async (tx, cards) => {
    const refusals = cards.map(({ job, card }) => refusalOf(job.input, card.status as StoredStatus, Number(card.version)));
    const changes = cards.flatMap(({ job, card }, i) =>
      refusals[i] === undefined ? [{ tenant: card.tenant, cardId: card.card_id, status: job.input.status }] : [],
    );
    const changed = changes.length === 0 ? new Map() : await setStatuses(tx, changes);
    await insertEvents(
      tx,
      cards.flatMap(({ job, card }, i) =>
        refusals[i] === undefined
          ? [
              {
                eventId: uuidv7(),
                tenant: card.tenant,
                cardId: card.card_id,
                kind: "status" as const,
                detail: {
                  from: statusName(card.status as StoredStatus),
                  to: statusName(job.input.status),
                  comment: job.input.comment,
                  by: job.call.principal.id,
                },
              },
            ]
          : [],
      ),
    );
    return cards.map(({ job, card, indexCode }, i) => {
      job.call.resources = [{ indexCode, card: card.card_id }];
      const row = changed.get(refKey({ tenant: card.tenant, cardId: card.card_id }));
      return refusals[i] ?? (row === undefined ? new Failure("INTERNAL", "internal error") : cardOf(row, indexCode, clock.now()));
    });
  });
}

function refusalOf(input: SetCardStatus, from: StoredStatus, version: number): Failure | undefined {
  if (input.expectedVersion !== 0 && input.expectedVersion !== version) {
    return new Failure("VERSION_MISMATCH", "the card has changed since expected_version; read it again");
  }
  try {
    checkTransition(from, input.status);
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}
