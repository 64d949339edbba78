import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Failure } from "../failure.js";
import { parseCardholderName, parseReference } from "./free-text.js";
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

describe("PCI DSS 3.3.1: free text", () => {
  it("is refused with a card number in it, wherever it stands and however it is separated, and is not echoed", () => {
    fc.assert(
      fc.property(bodies, fc.constantFrom("", " ", "-", ".", " - ".slice(0, 2)), fc.string({ maxLength: 20 }), (body, separator, around) => {
        const pan = body + luhnCheckDigit(body);
        const text = `${around.replace(/[^a-z]/gi, "")}x ${(pan.match(/.{1,4}/g) ?? []).join(separator)} y`;
        const failure = refused(() => parseCardholderName(text));
        expect(failure.reason).toBe("INVALID_FIELD");
        expect(failure.message).not.toContain(pan.slice(0, 6));
      }),
    );
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

  it("is refused beyond 128 characters, with control characters, and a reference beyond printable ASCII", () => {
    expect(parseCardholderName("x".repeat(128))).toHaveLength(128);
    refused(() => parseCardholderName("x".repeat(129)));
    refused(() => parseCardholderName("a\u0007b"));
    expect(parseReference("x".repeat(128), "r")).toHaveLength(128);
    refused(() => parseReference("x".repeat(129), "r"));
    refused(() => parseReference("é", "r"));
  });
});
