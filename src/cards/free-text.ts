import { invalidField } from "../failure.js";
import { brandOf, brands } from "./brand.js";
import { passesLuhn } from "./luhn.js";

/** Digits of a number that is taken for a PAN here; shorter ones are too many honest numbers. */
const panLength_min = 13;
const panLength_max = 19;

/**
 * Texts that callers may choose freely are refused where they hold what must never be stored: a card number, track data, a
 * verification value or a PIN (PCI DSS 3.3.1).
 * @throws Failure INVALID_FIELD; never echoes the value
 */
export function refuseCardData(asGiven: string, field: string): void {
  const text = folded(asGiven);
  if (holdsPan(text)) throw invalidField(field, "holds what looks like a card number; card numbers go into `pan` only");
  if (/%?B[0-9]{8,19}\^|;?[0-9]{8,19}=[0-9]{4}/.test(text)) throw invalidField(field, "holds what looks like track data; it must never be stored");
  if (/\b(cvv2?|cvc2?|cid|cav2?|csc|cvn|pin)\b\W{0,3}[0-9]{3,8}\b/i.test(text)) {
    throw invalidField(field, "holds what looks like a verification value or PIN; it must never be stored");
  }
}

/** Printable ASCII of limited length, free of card data. @throws Failure INVALID_FIELD */
export function parseReference(text: string, field: string, length_max = 128): string {
  if (text.length > length_max) throw invalidField(field, `must have at most ${length_max} characters`);
  if (!/^[\x20-\x7e]*$/.test(text)) throw invalidField(field, "must be printable ASCII");
  refuseCardData(text, field);
  return text;
}

/** A name on a card: any letters, no control characters. @throws Failure INVALID_FIELD */
export function parseCardholderName(text: string, field = "cardholder_name"): string {
  if (Buffer.byteLength(text, "utf8") > 512 || Array.from(text).length > 128) throw invalidField(field, "must have at most 128 characters");
  if (/\p{Cc}/u.test(text)) throw invalidField(field, "must not hold control characters");
  refuseCardData(text, field);
  return text;
}

/** ASCII for every decimal digit of Unicode, and for what only looks different (NFKC). */
function folded(text: string): string {
  return text.normalize("NFKC").replaceAll(/\p{Nd}/gu, (digit) => String(valueOf(digit.codePointAt(0) ?? 0)));
}

/** Decimal digits stand in runs of ten, from zero to nine (The Unicode Standard, 4.6). */
function valueOf(codePoint: number): number {
  let first = codePoint;
  while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first -= 1;
  return (codePoint - first) % 10;
}

/** Digits, also with up to three signs between them that are neither letters nor digits. */
const chains = /[0-9]+(?:[^\p{L}\p{N}]{1,3}[0-9]+)*/gu;

/** A card number, alone in its chain of digits or among other numbers. */
function holdsPan(text: string): boolean {
  for (const [chain] of text.matchAll(chains)) {
    const groups = chain.match(/[0-9]+/g) ?? [];
    const digits = groups.join("");
    if (digits.length < panLength_min) continue;
    if (digits.length <= panLength_max && passesLuhn(digits)) return true;
    const starts = new Set([0]);
    let length = 0;
    for (const group of groups) starts.add((length += group.length));
    if (holdsAmong(digits, starts) || groups.some(holdsInRun)) return true;
  }
  return false;
}

/** Whether a card number of a known brand begins where a group does, and ends with a group or has its brand's usual length. */
function holdsAmong(digits: string, starts: ReadonlySet<number>): boolean {
  for (const start of starts) {
    const usual = usualLength(digits.slice(start));
    if (usual === undefined) continue;
    for (let length = panLength_min; length <= panLength_max && start + length <= digits.length; length++) {
      if ((length === usual || starts.has(start + length)) && passesLuhn(digits.slice(start, start + length))) return true;
    }
  }
  return false;
}

/** Whether a run of digits, which may be somebody's number of an order, holds a card number of a known brand and its usual length. */
function holdsInRun(run: string): boolean {
  for (let start = 0; start + panLength_min <= run.length; start++) {
    const length = usualLength(run.slice(start));
    if (length !== undefined && start + length <= run.length && passesLuhn(run.slice(start, start + length))) return true;
  }
  return false;
}

/** Length of most PANs that begin so; undefined where no brand's do. */
function usualLength(digits: string): number | undefined {
  const brand = brandOf(digits);
  if (brand === brands.unknown) return undefined;
  return brand === brands.americanExpress ? 15 : 16;
}
