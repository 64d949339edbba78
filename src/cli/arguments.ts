import { type Duration, DurationSchema, type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { InvalidArgumentError } from "commander";

/** Parsers of option values. Each throws commander's InvalidArgumentError, which becomes a usage failure. */

/** A whole number in a range. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) throw new InvalidArgumentError(`must be a whole number from ${least} to ${most}.`);
    return value;
  };
}

/**
 * A value of a protobuf enum by its name, lower case with hyphens. 0 (unspecified) has no name here.
 * @param names those that are taken; default: all
 */
export function enumValue<E extends number>(values: Readonly<Record<string, string | number>>, names: readonly string[] = enumNames(values)): (text: string) => E {
  return (text) => {
    const value = names.includes(text.toLowerCase()) ? values[text.toUpperCase().replaceAll("-", "_")] : undefined;
    if (typeof value !== "number") throw new InvalidArgumentError(`must be one of: ${names.join(", ")}.`);
    return value as E;
  };
}

/** The names that `enumValue` takes. */
export function enumNames(values: Readonly<Record<string, string | number>>): string[] {
  return Object.entries(values)
    .filter(([, value]) => typeof value === "number" && value !== 0)
    .map(([name]) => name.toLowerCase().replaceAll("_", "-"));
}

const units_s: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A time span: a whole number and s, m, h or d. */
export function duration(text: string): Duration {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const unit_s = unit === undefined ? undefined : units_s[unit];
  if (count === undefined || unit_s === undefined) throw new InvalidArgumentError("must be a whole number and s, m, h or d, for example 30d.");
  return create(DurationSchema, { seconds: BigInt(Number(count) * unit_s) });
}

/** A moment: a date (its first instant, UTC) or a time with its zone, RFC 3339. */
export function moment(text: string): Timestamp {
  const date = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text) ? new Date(text) : undefined;
  if (date === undefined || Number.isNaN(date.getTime())) throw new InvalidArgumentError("must be a date or an RFC 3339 time, for example 2026-11-22T08:00:00Z.");
  return timestampFromDate(date);
}

/** Year and month of an expiry. */
export interface YearMonth {
  readonly year: number;
  readonly month: number;
}

/** YYYY-MM, MM/YY or MM/YYYY; undefined if it is none of them. Two-digit years are of this century. */
export function readExpiry(text: string): YearMonth | undefined {
  const [, longYear, monthAfter] = /^(\d{4})-(\d{2})$/.exec(text) ?? [];
  const [, monthBefore, anyYear] = /^(\d{1,2})\/(\d{4}|\d{2})$/.exec(text) ?? [];
  const year = longYear ?? anyYear;
  const month = Number(monthAfter ?? monthBefore);
  if (year === undefined || month < 1 || month > 12) return undefined;
  return { year: year.length === 2 ? 2000 + Number(year) : Number(year), month };
}

/** An expiry as an option. */
export function expiry(text: string): YearMonth {
  const value = readExpiry(text);
  if (value === undefined) throw new InvalidArgumentError("must be YYYY-MM, MM/YY or MM/YYYY.");
  return value;
}
