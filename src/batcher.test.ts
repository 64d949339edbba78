import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Batcher } from "./batcher.js";

describe("Batcher", () => {
  it("answers each item with its own result or failure, in whatever batches", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer(), { maxLength: 200 }), fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 3 }), async (items, batchSize_max, inFlight_max) => {
        let inFlight = 0;
        const batcher = new Batcher<number, number>({ name: "test", batchSize_max, queue_max: 1000, inFlight_max }, async (inputs) => {
          inFlight += 1;
          expect(inFlight).toBeLessThanOrEqual(inFlight_max);
          expect(inputs.length).toBeLessThanOrEqual(batchSize_max);
          await new Promise(setImmediate);
          inFlight -= 1;
          return inputs.map((n) => (n % 3 === 0 ? { ok: false, error: new Error(String(n)) } : { ok: true, value: n * 2 }));
        });
        const results = await Promise.allSettled(items.map((n) => batcher.submit(n)));
        for (const [i, result] of results.entries()) {
          const n = items[i] as number;
          if (n % 3 === 0) expect(result).toMatchObject({ status: "rejected", reason: { message: String(n) } });
          else expect(result).toEqual({ status: "fulfilled", value: n * 2 });
        }
      }),
    );
  });

  it("gathers all that waits while a batch is under way into the next one", async () => {
    const sizes: number[] = [];
    const batcher = new Batcher<number, number>({ name: "test", batchSize_max: 100, queue_max: 100, inFlight_max: 1 }, async (inputs) => {
      sizes.push(inputs.length);
      await new Promise(setImmediate);
      return inputs.map((value) => ({ ok: true, value }));
    });
    const first = batcher.submit(0);
    await new Promise(setImmediate);
    await Promise.all([first, ...Array.from({ length: 50 }, (_, i) => batcher.submit(i))]);
    expect(sizes).toEqual([1, 50]);
  });

  it("refuses one item more than its queue takes, at once, and takes it when there is room again", async () => {
    const batcher = new Batcher<number, number>({ name: "queue", batchSize_max: 1, queue_max: 5, inFlight_max: 1 }, (inputs) => Promise.resolve(inputs.map((value) => ({ ok: true, value }))));
    const taken = Array.from({ length: 5 }, (_, i) => batcher.submit(i));
    await expect(batcher.submit(5)).rejects.toMatchObject({ reason: "LIMIT", limit: "queue" });
    expect(await Promise.all(taken)).toEqual([0, 1, 2, 3, 4]);
    expect(await batcher.submit(6)).toBe(6);
  });

  it("fails everybody in a batch when the batch fails, and goes on with the next", async () => {
    let fail = true;
    const batcher = new Batcher<number, number>({ name: "test", batchSize_max: 10, queue_max: 10, inFlight_max: 1 }, (inputs) =>
      fail ? Promise.reject(new Error("all")) : Promise.resolve(inputs.map((value) => ({ ok: true, value }))),
    );
    expect(await Promise.allSettled([batcher.submit(1), batcher.submit(2)])).toMatchObject([{ status: "rejected" }, { status: "rejected" }]);
    fail = false;
    expect(await batcher.submit(3)).toBe(3);
  });
});
