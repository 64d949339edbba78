import { expect, test } from "vitest";
import { Failure } from "../failure.js";
import { GuessLimit } from "./guess-limit.js";
import { InFlight, ItemsInFlight } from "./in-flight.js";

const alice = { id: "spiffe://cardex.test/tenant/acme/alice", tenant: "acme" };
const bob = { id: "spiffe://cardex.test/tenant/acme/bob", tenant: "acme" };

function limitOf(work: () => unknown): Failure {
  try {
    work();
  } catch (error) {
    if (error instanceof Failure && error.reason === "LIMIT") return error;
    throw error;
  }
  throw new Error("no limit was reached");
}

test("tokenizations that share BIN and last four are counted by principal and refused beyond the limit, until the hour is over", () => {
  let now_ms = 1000;
  const alerts: string[] = [];
  const limit = new GuessLimit({ tokenizationsPerMaskedPan: 3, maskedPansWatched: 100 }, (principal) => alerts.push(principal.id), () => now_ms);
  for (let i = 0; i < 3; i += 1) limit.take(alice, "41111111|1111");
  now_ms += 600_000;
  expect(limitOf(() => limit.take(alice, "41111111|1111"))).toMatchObject({ limit: "tokenizationsPerMaskedPan", retryAfter_ms: 3_000_000 });
  limitOf(() => limit.take(alice, "41111111|1111"));
  expect(alerts).toEqual([alice.id]);
  limit.take(alice, "41111111|1112");
  limit.take(bob, "41111111|1111");
  now_ms += 3_000_000;
  limit.take(alice, "41111111|1111");
  expect(alerts).toEqual([alice.id]);
});

test("calls in flight are limited in all and by principal, and a place given back twice is one place", () => {
  const inFlight = new InFlight({ callsInFlight: 3, callsInFlightPerPrincipal: 2 });
  const leave = inFlight.enter(alice.id);
  inFlight.enter(alice.id);
  expect(limitOf(() => inFlight.enter(alice.id)).limit).toBe("callsInFlightPerPrincipal");
  inFlight.enter(bob.id);
  expect(limitOf(() => inFlight.enter(bob.id)).limit).toBe("callsInFlight");
  leave();
  leave();
  expect(inFlight.total).toBe(2);
  inFlight.enter(bob.id);
  expect(limitOf(() => inFlight.enter(alice.id)).limit).toBe("callsInFlight");
});

test("items of batches in flight are limited by principal, one batch always goes, and those of a batch that ended, or failed, are free again", async () => {
  const items = new ItemsInFlight({ itemsInFlightPerPrincipal: 1000 });
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const first = items.during(alice.id, 600, () => ended);
  const second = items.during(alice.id, 400, () => ended);
  await expect(items.during(alice.id, 1, () => ended)).rejects.toMatchObject({ reason: "LIMIT", limit: "itemsInFlightPerPrincipal", retryAfter_ms: 100 });
  const large = items.during(bob.id, 5000, () => ended);
  await expect(items.during(bob.id, 1, () => ended)).rejects.toMatchObject({ reason: "LIMIT" });
  end();
  await Promise.all([first, second, large]);
  await expect(items.during(alice.id, 600, () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
  expect(await items.during(alice.id, 1000, () => Promise.resolve("done"))).toBe("done");
});
