import fc from "fast-check";
import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { Failure } from "../failure.js";
import { luhnCheckDigit, passesLuhn } from "./luhn.js";
import { Pan } from "./pan.js";

const digits = fc.integer({ min: 7, max: 18 }).chain((length) => fc.array(fc.integer({ min: 0, max: 9 }), { minLength: length, maxLength: length }).map((all) => all.join("")));
const pans = digits.map((body) => body + luhnCheckDigit(body));

function violationOf(text: string): string {
  try {
    Pan.parse(text);
  } catch (error) {
    if (error instanceof Failure) return error.violations[0]?.description ?? "";
  }
  throw new Error("accepted");
}

describe("the Luhn check (ISO/IEC 7812-1)", () => {
  it("passes published test numbers", () => {
    for (const pan of ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904", "3530111333300000", "79927398713"]) {
      expect(passesLuhn(pan), pan).toBe(true);
    }
  });

  it("finds every single wrong digit", () => {
    fc.assert(
      fc.property(pans, fc.nat(), fc.integer({ min: 1, max: 9 }), (pan, at, by) => {
        const i = at % pan.length;
        const wrong = pan.slice(0, i) + String((Number(pan[i]) + by) % 10) + pan.slice(i + 1);
        expect(passesLuhn(wrong)).toBe(false);
      }),
    );
  });
});

describe("Pan", () => {
  it("takes every PAN of 8 to 19 digits and opens to the same digits", () => {
    fc.assert(
      fc.property(pans, (pan) => {
        expect(Pan.parse(pan).openDigits()).toBe(pan);
      }),
    );
  });

  it("refuses too short, too long, bad Luhn, letters, Unicode digits and spaces, and never echoes them", () => {
    expect(violationOf("")).toBe("is required");
    expect(violationOf("4242426")).toContain("8 to 19 digits");
    expect(violationOf("4".repeat(20))).toContain("8 to 19 digits");
    expect(violationOf("4111111111111112")).toContain("Luhn");
    for (const text of ["4111 1111 1111 1111", "4111-1111-1111-1111", "411111111111111a", "٤١١١١١١١١١١١١١١١", "４１１１１１１１１１１１１１１１", "4111111111111111\n", "+4111111111111111"]) {
      expect(violationOf(text)).toBe("must be ASCII digits only, without spaces or separators");
    }
  });

  it("shows in every string form at most what PCI SSC FAQ 1091 allows", () => {
    fc.assert(
      fc.property(pans, (text) => {
        const pan = Pan.parse(text);
        const hidden = text.length >= 16 ? 4 : text.length === 15 ? 5 : 6;
        const { bin, lastFour } = pan.truncated;
        expect(text.startsWith(bin) && text.endsWith(lastFour)).toBe(true);
        expect(text.length - bin.length - lastFour.length).toBeGreaterThanOrEqual(hidden);
        for (const shown of [String(pan), JSON.stringify({ pan }), inspect(pan), inspect({ deep: [pan] })]) {
          expect(shown.includes(text)).toBe(false);
          expect(shown.replace(/[^0-9]/g, "").length).toBeLessThanOrEqual(text.length - hidden);
        }
      }),
    );
  });

  it("keeps 8 leading and 4 last digits of 16, 6 and 4 of 15", () => {
    expect(String(Pan.parse("4111111111111111"))).toBe("41111111****1111");
    expect(String(Pan.parse("378282246310005"))).toBe("378282*****0005");
    expect(String(Pan.parse("30569309025904"))).toBe("3056******5904");
  });
});
