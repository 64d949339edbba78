import canonicalize from "canonicalize";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type ChainHead, type ChainProblem, ChainVerifier, type ExpectedEnd } from "./verify-chain.js";

interface Export {
  readonly lines: readonly string[];
  readonly heads: readonly ChainHead[];
}

/** An export as a correct server would write it: `sizes` holds, for each stream, the number of parts of each call. */
function exportOf(sizes: readonly (readonly number[])[]): Export {
  const lines: string[] = [];
  const heads: ChainHead[] = [];
  for (const [s, calls] of sizes.entries()) {
    const stream = `0192f0c1-0000-7000-8000-00000000000${s}`;
    let prev = "0".repeat(64);
    let seq = 0;
    for (const [c, parts] of calls.entries()) {
      for (let part = 1; part <= parts; part += 1) {
        seq += 1;
        const place = { v: 1, log: "acme", stream, seq, prev, ...(parts === 1 ? {} : { part, parts }) };
        const line = canonicalize({ ...place, call: `call-${s}-${c}`, outcome: "done", reason: "é\u2028" }) ?? "";
        prev = createHash("sha256").update(line).digest("hex");
        lines.push(line);
      }
    }
    heads.push({ stream, seq, hash: prev });
  }
  return { lines, heads };
}

function problemsOf(lines: readonly (string | Uint8Array)[], end?: Partial<ExpectedEnd> & Pick<ExpectedEnd, "heads">): ChainProblem[] {
  const verifier = new ChainVerifier();
  const problems = lines.map((line) => verifier.accept(typeof line === "string" ? Buffer.from(line) : line)).filter((each) => each !== undefined);
  return [...problems, ...verifier.finish(end === undefined ? undefined : { fromBeginning: true, toEnd: true, exact: true, ...end })];
}

const exports = fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 2, maxLength: 6 }), { minLength: 1, maxLength: 3 }).map(exportOf);
const spot = fc.nat();

describe("an export of any shape", () => {
  it("verifies as it is", () => {
    fc.assert(fc.property(exports, ({ lines, heads }) => {
        expect(problemsOf(lines, { heads })).toEqual([]);
      }));
  });

  it("does not verify with any one byte changed", () => {
    fc.assert(
      fc.property(exports, spot, spot, fc.integer({ min: 1, max: 255 }), ({ lines, heads }, at, where, flip) => {
        const bytes = lines.map((line) => Buffer.from(line));
        const victim = bytes[at % bytes.length] ?? Buffer.alloc(1);
        victim[where % victim.length] = (victim[where % victim.length] ?? 0) ^ flip;
        expect(problemsOf(bytes, { heads })).not.toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it("does not verify with any one line removed, the first and the last included", () => {
    fc.assert(
      fc.property(exports, spot, ({ lines, heads }, at) => {
        expect(problemsOf(lines.toSpliced(at % lines.length, 1), { heads })).not.toEqual([]);
      }),
    );
  });

  it("does not verify with any line doubled anywhere", () => {
    fc.assert(
      fc.property(exports, spot, spot, ({ lines, heads }, from, to) => {
        const line = lines[from % lines.length] ?? "";
        expect(problemsOf(lines.toSpliced(to % (lines.length + 1), 0, line), { heads })).not.toEqual([]);
      }),
    );
  });

  it("does not verify with any line of another export inserted anywhere", () => {
    fc.assert(
      fc.property(exports, exports, spot, spot, ({ lines, heads }, other, from, to) => {
        const line = (other.lines[from % other.lines.length] ?? "").replace('"outcome":"done"', '"outcome":"DONE"');
        expect(problemsOf(lines.toSpliced(to % (lines.length + 1), 0, line), { heads })).not.toEqual([]);
      }),
    );
  });

  it("does not verify with any two lines swapped", () => {
    fc.assert(
      fc.property(exports, spot, spot, ({ lines, heads }, a, b) => {
        const [i, j] = [a % lines.length, b % lines.length];
        fc.pre(i !== j);
        const swapped = lines.with(i, lines[j] ?? "").with(j, lines[i] ?? "");
        expect(problemsOf(swapped, { heads })).not.toEqual([]);
      }),
    );
  });

  it("does not verify with a rewritten tail, though its chain is whole again", () => {
    fc.assert(
      fc.property(exports, ({ lines, heads }) => {
        const last = lines.at(-1) ?? "";
        expect(problemsOf(lines.with(-1, last.replace('"outcome":"done"', '"outcome":"DONE"')), { heads })).toMatchObject([
          { line: undefined, message: expect.stringContaining("it was changed") },
        ]);
      }),
    );
  });
});

describe("what is told", () => {
  const { lines, heads } = exportOf([
    [1, 2, 1],
    [1, 1],
  ]);
  const [first = "", second = "", third = "", fourth = ""] = lines;

  it("names the line and the numbers where an entry is missing", () => {
    expect(problemsOf([first, third])[0]).toMatchObject({ line: 2, message: "has sequence number 3 where 2 was due; entries are missing" });
  });

  it("tells one changed line once, at the line after it", () => {
    const changed = problemsOf(lines.with(0, first.replace('"outcome":"done"', '"outcome":"DONE"')), { heads });
    expect(changed).toMatchObject([{ line: 2, message: expect.stringContaining("was changed") }]);
  });

  it("takes the first prev of a range as given and says where the range begins", () => {
    const verifier = new ChainVerifier();
    expect(verifier.accept(Buffer.from(fourth))).toBeUndefined();
    expect(verifier.streams()).toMatchObject([{ firstSeq: 4, seq: 4, entries: 1 }]);
    expect(verifier.finish({ heads: heads.slice(0, 1), fromBeginning: false, toEnd: true })).toEqual([]);
  });

  it("lets a range that ends early end before the heads", () => {
    expect(problemsOf([first], { heads, fromBeginning: false, toEnd: false, exact: false })).toEqual([]);
  });

  it("lets a log go on behind the heads that were read before it, but not fall short of them", () => {
    const before = heads.map((head) => ({ ...head, seq: head.seq - 1, hash: "0".repeat(64) }));
    expect(problemsOf(lines, { heads: before.slice(0, 1), exact: false })).toEqual([]);
    expect(problemsOf(lines, { heads: before })).not.toEqual([]);
    const after = heads.map((head) => ({ ...head, seq: head.seq + 1 }));
    expect(problemsOf(lines, { heads: after, exact: false })).toHaveLength(2);
  });

  it("finds parts that are not complete", () => {
    expect(problemsOf([first, second])).toMatchObject([{ message: "ends with part 1 of 2; the rest is missing" }]);
    expect(problemsOf([third])).toMatchObject([{ message: "is part 2 of 2 without the parts before it" }]);
  });

  it("finds a whole stream that is missing", () => {
    expect(problemsOf(lines.slice(0, 4), { heads })).toMatchObject([{ message: "is missing as a whole; its head is entry 2" }]);
  });

  it("finds a stream that goes on after another began", () => {
    expect(problemsOf([first, lines[4] ?? "", second])).toContainEqual(expect.objectContaining({ line: 3, message: expect.stringContaining("lines were moved") }));
  });

  it.each([
    ["not JSON", "{", "can't be read as JSON"],
    ["no object", "[]", "is not a JSON object"],
    ["another order of keys", '{"b":1,"a":2}', "is not in canonical form (RFC 8785)"],
    ["a key twice", '{"a":1,"a":1}', "is not in canonical form (RFC 8785)"],
    ["a space", '{"a": 1}', "is not in canonical form (RFC 8785)"],
    ["a number in another form", '{"a":1.0}', "is not in canonical form (RFC 8785)"],
    ["a byte order mark", '\ufeff{"a":1}', "can't be read as JSON"],
    ["a lone surrogate", '{"a":"\\ud800"}', "holds a lone surrogate"],
    ["an escaped backslash before ud800, which is none", '{"a":"\\\\ud800"}', "is no entry of version 1"],
    ["nothing", "", "can't be read as JSON"],
    ["deep nesting", "[".repeat(8000) + "]".repeat(8000), "can't be read as JSON"],
  ])("refuses a line with %s", (_, line, message) => {
    expect(problemsOf([line])).toMatchObject([{ line: 1, message }]);
  });

  it("refuses a line that is not UTF-8 or is longer than 16 KiB, and takes one of exactly 16 KiB", () => {
    expect(problemsOf([Buffer.from([0x7b, 0xff, 0x7d])])).toMatchObject([{ message: "is not UTF-8" }]);
    const padded = (length: number): string => {
      const entry = { v: 1, stream: "s", seq: 1, prev: "0".repeat(64), part: 1, parts: 1, pad: "" };
      const bare = canonicalize(entry) ?? "";
      return canonicalize({ ...entry, pad: "x".repeat(length - bare.length) }) ?? "";
    };
    expect(problemsOf([padded(16_384)])).toEqual([]);
    expect(problemsOf([padded(16_385)])).toMatchObject([{ message: "has 16385 bytes, more than 16384" }]);
  });
});
