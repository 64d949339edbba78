import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeGroup, encodeGroup, encodeResults, takeResults, type Operation } from "./group.js";

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom("encrypt", "decrypt", "mac", "sign", "random"),
  key: fc.nat(),
  a: fc.uint8Array({ maxLength: 100 }),
  b: fc.uint8Array({ maxLength: 100 }),
});

describe("a group of operations as one buffer", () => {
  it("comes out as it went in", () => {
    fc.assert(
      fc.property(fc.array(operation), (operations) => {
        expect(decodeGroup(encodeGroup(operations))).toEqual(operations);
      }),
    );
  });

  it("brings back each result or its absence, and leaves nothing of them in the buffer", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.uint8Array({ maxLength: 100 }), { nil: undefined })), (results) => {
        const bytes = encodeResults(results);
        expect(takeResults(bytes)).toEqual(results);
        expect(new Uint8Array(bytes).every((byte) => byte === 0)).toBe(true);
      }),
    );
  });
});
