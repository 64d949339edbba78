import fc from "fast-check";
import { expect, it } from "vitest";
import { type FileLine, type LineOptions, readLines } from "./lines.js";

async function linesOf(chunks: readonly Uint8Array[], length_max: number, options?: LineOptions): Promise<FileLine[]> {
  const all: FileLine[] = [];
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield* chunks;
  };
  for await (const group of readLines(source(), length_max, options)) all.push(...group);
  return all;
}

const text = fc.array(fc.constantFrom("a", "b", "\r", "\n", "\n"), { maxLength: 60 }).map((letters) => letters.join(""));

it("gives the same lines however the bytes are cut into chunks", async () => {
  await fc.assert(
    fc.asyncProperty(text, fc.array(fc.nat({ max: 60 }), { maxLength: 8 }), fc.integer({ min: 1, max: 8 }), async (content, cuts, length_max) => {
      const bytes = Buffer.from(content);
      const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
      const chunks = at.slice(1).map((to, i) => bytes.subarray(at[i], to));
      expect(await linesOf(chunks, length_max)).toEqual(await linesOf([bytes], length_max));
    }),
  );
});

it("goes on from the end of any line with the numbers and offsets of the whole file", async () => {
  await fc.assert(
    fc.asyncProperty(text, fc.nat(), async (content, pick) => {
      const bytes = Buffer.from(content);
      const all = await linesOf([bytes], 100);
      fc.pre(all.length > 0);
      const i = pick % all.length;
      const { number, end } = all[i] as FileLine;
      expect(await linesOf([bytes.subarray(end)], 100, { start: { lines: number, bytes: end } })).toEqual(all.slice(i + 1));
    }),
  );
});

it("keeps nothing of a line that is too long, and goes on after it", async () => {
  const all = await linesOf([Buffer.from("ok\nxxxxx"), Buffer.from("xxxxx\nok\r\nabcd\nabcde")], 4);
  expect(all.map(({ bytes, tooLong, end }) => [bytes.toString(), tooLong, end])).toEqual([
    ["ok", false, 3],
    ["", true, 14],
    ["ok", false, 18],
    ["abcd", false, 23],
    ["", true, 28],
  ]);
});

it("keeps a carriage return where it belongs to the line", async () => {
  const [line] = await linesOf([Buffer.from("a\r\n")], 10, { keepReturn: true });
  expect(line?.bytes.toString()).toBe("a\r");
});
