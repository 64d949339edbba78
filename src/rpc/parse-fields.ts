import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Failure, type FieldViolation, invalidField } from "../failure.js";

/** Whole seconds of a duration. @throws Failure INVALID_FIELD */
export function parseSeconds(duration: Duration, field: string, least_s: number, most_s: number, range: string): number {
  const seconds = Number(duration.seconds);
  if (duration.nanos !== 0) throw invalidField(field, "must be whole seconds");
  if (seconds < least_s || seconds > most_s) throw invalidField(field, `must be ${range}`);
  return seconds;
}

/** @throws Failure INVALID_FIELD */
export function parseTime(timestamp: Timestamp | undefined, field: string): Date | undefined {
  if (timestamp === undefined) return undefined;
  const seconds = Number(timestamp.seconds);
  if (seconds < -62_135_596_800 || seconds > 253_402_300_799 || timestamp.nanos < 0 || timestamp.nanos > 999_999_999) {
    throw invalidField(field, "must be a time of the years 1 to 9999");
  }
  return timestampDate(timestamp);
}

/** Number of entries of a page. @throws Failure INVALID_FIELD */
export function parsePageSize(size: number, most: number): number {
  if (size < 0 || size > most) throw invalidField("page_size", `must be 1 to ${most}, or 0 for 100`);
  return size === 0 ? 100 : size;
}

/** Number of items of a batch. @throws Failure INVALID_FIELD */
export function checkBatch(items: readonly unknown[], field: string, most: number): void {
  if (items.length === 0) throw invalidField(field, "must have at least one item");
  if (items.length > most) throw invalidField(field, `must have at most ${most} items; send several batches`);
}

/** Runs parsers one by one and reports everything that is wrong at once. */
export class FieldParser {
  readonly #violations: FieldViolation[] = [];

  /** The parsed value, or undefined if it is wrong, which `finish` then reports. */
  read<T>(parse: () => T): T | undefined {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof Failure) || error.reason !== "INVALID_FIELD") throw error;
      this.#violations.push(...error.violations);
      return undefined;
    }
  }

  /** @throws Failure INVALID_FIELD naming every field that was wrong */
  finish(): void {
    if (this.#violations.length === 0) return;
    const text = this.#violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
    throw new Failure("INVALID_FIELD", text, { violations: this.#violations });
  }
}
