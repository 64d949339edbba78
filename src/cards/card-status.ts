import { Failure } from "../failure.js";
import type { Expiry } from "./expiry.js";
import { isOver } from "./expiry.js";

/** Statuses, numbered as cardex.v1.CardStatus. EXPIRED is derived and never stored. */
export const cardStatus = { active: 1, frozen: 2, lost: 3, stolen: 4, expired: 5, closed: 6 } as const;

export type CardStatus = (typeof cardStatus)[keyof typeof cardStatus];
export type StoredStatus = Exclude<CardStatus, typeof cardStatus.expired>;

const names: Readonly<Record<CardStatus, string>> = { 1: "ACTIVE", 2: "FROZEN", 3: "LOST", 4: "STOLEN", 5: "EXPIRED", 6: "CLOSED" };

const allowed: Readonly<Record<StoredStatus, readonly StoredStatus[]>> = {
  [cardStatus.active]: [cardStatus.frozen, cardStatus.lost, cardStatus.stolen, cardStatus.closed],
  [cardStatus.frozen]: [cardStatus.active, cardStatus.lost, cardStatus.stolen, cardStatus.closed],
  [cardStatus.lost]: [cardStatus.active, cardStatus.closed],
  [cardStatus.stolen]: [cardStatus.closed],
  [cardStatus.closed]: [],
};

/** Purposes that a lost, stolen or closed card still detokenizes for. */
const afterLoss: readonly string[] = ["REFUND", "CHARGEBACK"];

export function statusName(status: CardStatus): string {
  return names[status];
}

/** What callers see: an ACTIVE card past its expiry is EXPIRED; graver statuses stay what they are. */
export function shownStatus(stored: StoredStatus, expiry: Expiry, now: Date): CardStatus {
  return stored === cardStatus.active && isOver(expiry, now) ? cardStatus.expired : stored;
}

/** @throws Failure STATUS_TRANSITION */
export function checkTransition(from: StoredStatus, to: StoredStatus): void {
  if (!allowed[from].includes(to)) {
    throw new Failure("STATUS_TRANSITION", `a card that is ${names[from]} can't become ${names[to]}`);
  }
}

/** Whether a PAN may be released for this purpose. @throws Failure CARD_STATUS */
export function checkRelease(stored: StoredStatus, purpose: string): void {
  if (isStopped(stored) && !afterLoss.includes(purpose)) {
    throw new Failure("CARD_STATUS", `the card is ${names[stored]}; its PAN is released for refunds and chargebacks only`);
  }
}

/** @throws Failure CARD_STATUS */
export function checkTokenize(stored: StoredStatus): void {
  if (isStopped(stored)) throw new Failure("CARD_STATUS", `the card is ${names[stored]}; it can't be tokenized`);
}

function isStopped(stored: StoredStatus): boolean {
  return stored === cardStatus.lost || stored === cardStatus.stolen || stored === cardStatus.closed;
}
