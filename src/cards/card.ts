import type { CardRow } from "../store/cards.js";
import { type CardStatus, shownStatus, type StoredStatus } from "./card-status.js";
import { type Expiry, expiryOf } from "./expiry.js";

/** The truncated and public facts of a card (PCI DSS 3.4.1). */
export interface MaskedCard {
  readonly bin: string;
  readonly lastFour: string;
  readonly panLength: number;
  readonly brand: number;
  readonly type: number;
  readonly country: string;
  readonly expiry: Expiry;
}

/** A card as the index knows it. */
export interface IndexedCard {
  readonly cardId: string;
  readonly indexCode: string;
  readonly status: CardStatus;
  readonly masked: MaskedCard;
  readonly version: number;
  /** Milliseconds since the epoch; numbers, so that an answer that is kept for repeats reads back as it was. */
  readonly createdAt_ms: number;
  readonly updatedAt_ms: number;
}

export function maskedOf(row: Pick<CardRow, "bin" | "last_four" | "pan_length" | "brand" | "type" | "country" | "expiry">): MaskedCard {
  return {
    bin: row.bin,
    lastFour: row.last_four,
    panLength: row.pan_length,
    brand: row.brand,
    type: row.type,
    country: row.country,
    expiry: expiryOf(row.expiry),
  };
}

/** @param now PostgreSQL's time or ours; decides only whether the card reads as EXPIRED */
export function cardOf(row: CardRow, indexCode: string, now: Date): IndexedCard {
  return {
    cardId: row.card_id,
    indexCode,
    status: shownStatus(row.status as StoredStatus, expiryOf(row.expiry), now),
    masked: maskedOf(row),
    version: Number(row.version),
    createdAt_ms: row.created_at.getTime(),
    updatedAt_ms: row.updated_at.getTime(),
  };
}
