import { invalidField } from "../failure.js";
import { passesLuhn } from "./luhn.js";

/**
 * Texts that callers may choose freely are refused where they hold what must never be stored: a card number, track data, a
 * verification value or a PIN (PCI DSS 3.3.1).
 * @throws Failure INVALID_FIELD; never echoes the value
 */
export function refuseCardData(text: string, field: string): void {
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
  refuseCardData(text.normalize("NFKC"), field);
  return text;
}

/** 13 to 19 digits that pass Luhn, also with separators between them, also inside longer runs of digits. */
function holdsPan(text: string): boolean {
  for (const run of text.match(/[0-9](?:[ ._/-]{0,2}[0-9]){12,}/g) ?? []) {
    const digits = run.replace(/[^0-9]/g, "");
    for (let length = 13; length <= 19; length++) {
      for (let start = 0; start + length <= digits.length; start++) {
        if (passesLuhn(digits.slice(start, start + length))) return true;
      }
    }
  }
  return false;
}
