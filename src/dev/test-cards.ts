import { luhnCheckDigit } from "../cards/luhn.js";

/**
 * Card numbers of the ranges that the brands set aside for tests, with a Luhn digit (ISO/IEC 7812-1 annex B). The same index
 * always gives the same card. No issuer has them.
 * @param index 0 to 999,999
 */
export function testCard(index: number): { readonly pan: string; readonly expiry: string; readonly name: string } {
  const range = ranges[index % ranges.length] ?? ranges[0];
  const digits = `${range.prefix}${String(index).padStart(range.length - range.prefix.length - 1, "0")}`;
  return { pan: `${digits}${luhnCheckDigit(digits)}`, expiry: `2035-${String((index % 12) + 1).padStart(2, "0")}`, name: `TEST CARDHOLDER ${letters(index)}` };
}

const ranges = [
  { prefix: "411111", length: 16 },
  { prefix: "555555", length: 16 },
  { prefix: "378282", length: 15 },
  { prefix: "601111", length: 16 },
] as const;

/** A name has no digits: A, B, ..., Z, BA, ... */
function letters(index: number): string {
  const letter = String.fromCodePoint(65 + (index % 26));
  return index < 26 ? letter : letters(Math.trunc(index / 26)) + letter;
}
