import type { RandomPool } from "../../hsm/random-pool.js";
import { invalidField } from "../failure.js";
import { passesLuhn } from "./luhn.js";

/** Tries before a collision is given up; with 10^10 serials an institution and type, one is hardly ever needed. */
export const codeCandidates = 3;

/**
 * A new code of the segmented scheme: institution (4 digits), card type (2: the brand), random serial (10, from the HSM); 16 digits
 * that never pass the Luhn check, so that nobody takes a code for a PAN.
 */
export async function newIndexCode(random: RandomPool, institution: string, brand: number): Promise<string> {
  for (;;) {
    const code = institution + String(brand).padStart(2, "0") + (await random.digits(10));
    if (!passesLuhn(code)) return code;
  }
}

/** @throws Failure INVALID_FIELD; never echoes the value, which may be a PAN sent by mistake */
export function parseIndexCode(text: string, field: string): string {
  if (!/^[0-9]{16}$/.test(text)) throw invalidField(field, "must be an index code: 16 digits");
  if (passesLuhn(text)) throw invalidField(field, "is not an index code (index codes never pass the Luhn check)");
  return text;
}
