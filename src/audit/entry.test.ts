import canonicalize from "canonicalize";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Call } from "../call.js";
import { callDrafts, canonicalJson, chainStart, entryLine, lineSize_max } from "./entry.js";
import { noticeCall } from "./notice-call.js";

const json = fc.letrec<{ value: never }>((tie) => ({
  value: fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.maxSafeInteger(),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.string({ unit: "grapheme" }), tie("value"), { maxKeys: 5 }),
  ) as fc.Arbitrary<never>,
}));

describe("canonical JSON (RFC 8785)", () => {
  it("is what an independent implementation makes of the same value", () => {
    fc.assert(fc.property(json.value, (value) => {
        expect(canonicalJson(value)).toBe(canonicalize(value));
      }),
    );
  });

  it("sorts keys by UTF-16 code units and escapes as the RFC's example does", () => {
    expect(canonicalJson({ "€": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew", "1": "One", "😀": "Emoji", "\u0080": "Control", "ö": "Latin" })).toBe(
      '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin","€":"Euro Sign","😀":"Emoji","\ufb33":"Hebrew"}',
    );
  });

  it("refuses numbers that other programs would read differently", () => {
    for (const number of [2 ** 53, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) expect(() => canonicalJson(number)).toThrow();
  });
});

describe("a call's entries", () => {
  it("fit 16 KiB each, k of n, with every resource exactly once, in order", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1500 }), fc.string({ maxLength: 128, unit: "grapheme" }), (count, reference) => {
        const call: Call = { ...noticeCall, id: "c", facts: { reference }, resources: Array.from({ length: count }, (_, i) => ({ token: `tok_${String(i).padStart(32, "a")}`, outcome: "released" })) };
        const drafts = callDrafts(call, { outcome: "released" });
        const lines = drafts.map((draft, i) => entryLine(draft, { stream: "00000000-0000-7000-8000-000000000000", seq: Number.MAX_SAFE_INTEGER - i, prev: chainStart, time: new Date(0) }));
        for (const line of lines) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(lineSize_max);
        const parsed = lines.map((line) => JSON.parse(line) as { resources?: { token: string }[]; part?: number; parts?: number });
        expect(parsed.flatMap((entry) => entry.resources ?? []).map(({ token }) => token)).toEqual(call.resources.map(({ token }) => token));
        if (lines.length > 1) expect(parsed.map(({ part, parts }) => [part, parts])).toEqual(lines.map((_, i) => [i + 1, lines.length]));
      }),
      { numRuns: 30 },
    );
  });
});
