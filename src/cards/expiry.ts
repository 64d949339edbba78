import { clock } from "../clock.js";
import { invalidField } from "../failure.js";

/** Year and month; the card is good to the month's last day, UTC. */
export interface Expiry {
  readonly year: number;
  readonly month: number;
}

/** @throws Failure INVALID_FIELD: missing, month not 1 to 12, year not 2000 to 2099, past */
export function parseExpiry(input: Expiry | undefined, field = "expiry", now: Date = clock.now()): Expiry {
  if (input === undefined) throw invalidField(field, "is required: year and month");
  const { year, month } = input;
  if (!Number.isInteger(month) || month < 1 || month > 12) throw invalidField(`${field}.month`, "must be 1 to 12");
  if (!Number.isInteger(year) || year < 2000 || year > 2099) throw invalidField(`${field}.year`, "must be four digits, 2000 to 2099");
  if (isOver({ year, month }, now)) throw invalidField(field, "is past");
  return { year, month };
}

/** Whether the month is over, UTC. */
export function isOver(expiry: Expiry, now: Date): boolean {
  return expiry.year * 12 + expiry.month < now.getUTCFullYear() * 12 + now.getUTCMonth() + 1;
}

/** As kept in PostgreSQL: year * 100 + month. */
export function expiryNumber(expiry: Expiry): number {
  return expiry.year * 100 + expiry.month;
}

export function expiryOf(number: number): Expiry {
  return { year: Math.floor(number / 100), month: number % 100 };
}
