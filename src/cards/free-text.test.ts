import { randomInt, randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Failure } from "../failure.js";
import { parseCardholderName, parseReference, refuseCardData } from "./free-text.js";
import { luhnCheckDigit } from "./luhn.js";

const bodies = fc.integer({ min: 12, max: 18 }).chain((length) => fc.array(fc.integer({ min: 0, max: 9 }), { minLength: length, maxLength: length }).map((all) => all.join("")));

function refused(parse: () => unknown): Failure {
  try {
    parse();
  } catch (error) {
    if (error instanceof Failure) return error;
  }
  throw new Error("accepted");
}

function taken(text: string): boolean {
  try {
    refuseCardData(text, "reference");
    return true;
  } catch (error) {
    if (error instanceof Failure) return false;
    throw error;
  }
}

function digitsOf(length: number): string {
  return Array.from({ length }, () => randomInt(10)).join("");
}

describe("PCI DSS 3.3.1: free text", () => {
  it("is refused with a card number in it, wherever it stands and however it is separated, and is not echoed", () => {
    const separators = fc.oneof(fc.constant(""), fc.string({ unit: "binary", minLength: 1, maxLength: 3 }).filter((text) => /^[^\p{L}\p{N}\p{Cc}\p{Cs}]{1,3}$/u.test(text.normalize("NFKC"))));
    fc.assert(
      fc.property(bodies, fc.array(separators, { minLength: 19, maxLength: 19 }), fc.integer({ min: 1, max: 19 }), fc.string({ maxLength: 20 }), (body, between, size, around) => {
        const pan = body + luhnCheckDigit(body);
        const groups = pan.match(new RegExp(`.{1,${size}}`, "g")) ?? [];
        const text = `${around.replace(/[^a-z]/gi, "")}x ${groups.map((group, i) => group + (i + 1 < groups.length ? between[i] : "")).join("")} y`;
        fc.pre(Buffer.byteLength(text) <= 512);
        const failure = refused(() => refuseCardData(text, "name"));
        expect(failure.reason).toBe("INVALID_FIELD");
        expect(failure.message).not.toContain(pan.slice(0, 6));
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    "4111,1111,1111,1111",
    "4111:1111:1111:1111",
    "4111 - 1111 - 1111 - 1111",
    "4*1*1*1*1*1*1*1*1*1*1*1*1*1*1*1",
    "4111–1111–1111–1111",
    "4111\u00a01111\u200b1111\u20091111",
    "٤١١١١١١١١١١١١١١١",
    "४१११ ११११ ११११ ११११",
    "𝟜𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙𝟙",
    "order 12 4111 1111 1111 1111",
    "4111 1111 1111 1111 12/26 123",
    "4111111111111111123",
    "41111111111111111226123",
    "00004111111111111111",
    "ref3782822463100051226",
    "3782 822463 10005 1226",
  ])("is refused: %s", (text) => {
    refused(() => parseCardholderName(text));
  });

  it("is refused with track data, verification values and PINs in it", () => {
    for (const text of ["%B4111111111111111^DOE/JOHN^2512", ";4111111111111111=2512101", "cvv=123", "CVC2: 456", "cid 1234", "pin 1234", "my CSC:999", "４１１１１１１１１１１１１１１１"]) {
      expect(refused(() => parseCardholderName(text)).violations[0]?.field, text).toBe("cardholder_name");
    }
  });

  it("is taken as it is where it is harmless", () => {
    for (const name of ["", "JOHN DOE", "Zoë Müller-O’Neill", "李小龍", "Class of 2024", "order 1234567890"]) expect(parseCardholderName(name)).toBe(name);
    expect(parseReference("inv-2026-000123456", "external_reference")).toBe("inv-2026-000123456");
  });

  it("is taken where it has honest numbers: most long ones of no brand's form, timestamps and UUIDs", () => {
    const accepted = (make: (n: number) => string): number => {
      let count = 0;
      for (let n = 0; n < 1000; n++) if (taken(make(n))) count += 1;
      return count / 1000;
    };
    const at = (n: number): Date => new Date(Date.UTC(2026, n % 12, 1 + (n % 28), n % 24, n % 60, n % 59, n % 1000));
    expect(accepted(() => randomUUID())).toBeGreaterThan(0.99);
    expect(accepted((n) => at(n).toISOString())).toBe(1);
    // Of numbers with a check digit's length by chance, a tenth passes Luhn.
    expect(accepted((n) => at(n).toISOString().replace(/\D/g, ""))).toBeGreaterThan(0.85);
    expect(accepted((n) => String(at(n).getTime() * 1000 + n))).toBeGreaterThan(0.8);
    expect(accepted(() => digitsOf(20))).toBeGreaterThan(0.75);
    expect(accepted(() => `inv-${digitsOf(12)}`)).toBe(1);
  });

  it("is refused beyond 128 characters, with control characters, and a reference beyond printable ASCII", () => {
    expect(parseCardholderName("x".repeat(128))).toHaveLength(128);
    refused(() => parseCardholderName("x".repeat(129)));
    refused(() => parseCardholderName("a\u0007b"));
    expect(parseReference("x".repeat(128), "r")).toHaveLength(128);
    refused(() => parseReference("x".repeat(129), "r"));
    refused(() => parseReference("é", "r"));
  });
});
