import { createHash, timingSafeEqual } from "node:crypto";
import type { RandomPool } from "../../hsm/random-pool.js";
import { passesLuhn } from "../cards/luhn.js";
import type { Pan } from "../cards/pan.js";
import { invalidField } from "../failure.js";

/** Forms of a token, numbered as cardex.v1.TokenFormat. */
export const tokenFormats = { opaque: 1, numeric: 2 } as const;
export type TokenFormat = (typeof tokenFormats)[keyof typeof tokenFormats];

const random_bytes = 18;
const check_bytes = 2;
const alphabet = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * Leading digits of numeric tokens. ISO/IEC 7812-1 gives 9 to national standards bodies, followed by the ISO 3166 country; no
 * country has a code from 990 on, so no card begins with 99.
 */
const numericPrefix = "99";

/** Random digits that a numeric token has at least (PCI SSC Tokenization Guidelines). */
const randomDigits_min = 9;

/** "tok_" and 160 bits in base32 (RFC 4648 alphabet, lower case): 144 random, 16 of check. */
export async function newOpaqueToken(random: RandomPool): Promise<string> {
  const bytes = await random.take(random_bytes);
  return `tok_${base32(Buffer.concat([bytes, checkOf(bytes)]))}`;
}

/**
 * Digits, as many as the PAN has: 99, random digits, and the last four on request. Never passes the Luhn check.
 * @throws Failure INVALID_FIELD if fewer than 9 digits would be random
 */
export async function newNumericToken(random: RandomPool, pan: Pan, keepLastFour: boolean): Promise<string> {
  checkNumericLength(pan, keepLastFour);
  const tail = keepLastFour ? pan.truncated.lastFour : "";
  for (;;) {
    const token = numericPrefix + (await random.digits(pan.length - numericPrefix.length - tail.length)) + tail;
    if (!passesLuhn(token)) return token;
  }
}

/** @throws Failure INVALID_FIELD if a numeric token of this PAN's length would have fewer than 9 random digits */
export function checkNumericLength(pan: Pan, keepLastFour: boolean): void {
  if (pan.length - numericPrefix.length - (keepLastFour ? 4 : 0) >= randomDigits_min) return;
  throw invalidField(
    "options.format",
    keepLastFour
      ? "NUMERIC with keep_last_four needs a PAN of at least 15 digits; use OPAQUE"
      : "NUMERIC needs a PAN of at least 11 digits; use OPAQUE",
  );
}

/** @throws Failure INVALID_FIELD; never echoes the value, which may be a PAN sent by mistake */
export function parseToken(text: string, field = "token"): string {
  if (text === "") throw invalidField(field, "is required");
  if (/^99[0-9]{9,17}$/.test(text) && !passesLuhn(text)) return text;
  if (!/^tok_[a-z2-7]{32}$/.test(text)) throw invalidField(field, "is not a token");
  const bytes = unbase32(text.slice(4));
  const random = bytes.subarray(0, random_bytes);
  if (!timingSafeEqual(checkOf(random), bytes.subarray(random_bytes))) throw invalidField(field, "is not a token: its check does not fit; was it cut or mistyped?");
  return text;
}

function checkOf(bytes: Buffer): Buffer {
  return createHash("sha256").update("tok_").update(bytes).digest().subarray(0, check_bytes);
}

function base32(bytes: Buffer): string {
  let text = "";
  let value = 0;
  let bits = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet.charAt((value >>> bits) & 31);
    }
    value &= (1 << bits) - 1;
  }
  return text;
}

function unbase32(text: string): Buffer {
  const bytes: number[] = [];
  let value = 0;
  let bits = 0;
  for (const letter of text) {
    value = (value << 5) | alphabet.indexOf(letter);
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((value >>> bits) & 255);
      value &= (1 << bits) - 1;
    }
  }
  return Buffer.from(bytes);
}
