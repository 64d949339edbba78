import { inspect } from "node:util";
import { invalidField } from "../failure.js";
import { passesLuhn } from "./luhn.js";

/**
 * A primary account number (ISO/IEC 7812-1): 8 to 19 digits that pass the Luhn check. Its every string form is masked; the digits
 * are opened by `openDigits` alone, which can be searched for.
 */
export class Pan {
  readonly #digits: string;

  private constructor(digits: string) {
    this.#digits = digits;
  }

  /** @throws Failure INVALID_FIELD naming `field`, never the value */
  static parse(text: string, field = "pan"): Pan {
    if (text === "") throw invalidField(field, "is required");
    if (!/^[0-9]*$/.test(text)) throw invalidField(field, "must be ASCII digits only, without spaces or separators");
    if (text.length < 8 || text.length > 19) throw invalidField(field, "must have 8 to 19 digits");
    if (!passesLuhn(text)) throw invalidField(field, "does not pass the Luhn check; a digit is wrong");
    return new Pan(text);
  }

  /** The digits in clear. Every place that calls this handles a PAN. */
  openDigits(): string {
    return this.#digits;
  }

  get length(): number {
    return this.#digits.length;
  }

  /** What may be kept and shown in clear. */
  get truncated(): Truncated {
    return truncate(this.#digits);
  }

  toString(): string {
    const { bin, lastFour } = this.truncated;
    return bin + "*".repeat(this.length - bin.length - lastFour.length) + lastFour;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return `Pan(${this.toString()})`;
  }
}

/** The visible ends of a truncated PAN. */
export interface Truncated {
  readonly bin: string;
  readonly lastFour: string;
}

/**
 * PCI SSC FAQ 1091: at least 4 digits stay hidden at 16 digits and more, 5 at 15, 6 at 14 and fewer. The last four are kept as long
 * as that allows; the leading digits get what is left, at most 8.
 */
function truncate(digits: string): Truncated {
  const hidden = digits.length >= 16 ? 4 : digits.length === 15 ? 5 : 6;
  const visible = digits.length - hidden;
  const last = Math.min(4, visible);
  return { bin: digits.slice(0, Math.min(8, visible - last)), lastFour: digits.slice(digits.length - last) };
}
