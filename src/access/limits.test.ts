import { expect, test } from "vitest";
import { Failure } from "../failure.js";
import { GuessLimit, type GuessLimits } from "./guess-limit.js";
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

function isLimited(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (error) {
    return error instanceof Failure;
  }
}

const masked = "16.41111111.1111";

function guessLimit(limits: Partial<GuessLimits> = {}): { limit: GuessLimit; alerts: string[]; wait: (ms: number) => void } {
  let now_ms = 1000;
  const alerts: string[] = [];
  const tell = ({ id }: { id: string }, alert: string): void => void alerts.push(`${alert} ${id}`);
  const limit = new GuessLimit({ tokenizationsPerMaskedPan: 3, principalsWatched: 10, ...limits }, tell, () => now_ms);
  return { limit, alerts, wait: (ms) => (now_ms += ms) };
}

test("tokenizations that share BIN and last four are counted by principal and refused beyond the limit, until the hour is over", () => {
  const { limit, wait } = guessLimit();
  for (let i = 0; i < 3; i += 1) limit.take(alice, masked);
  wait(600_000);
  expect(limitOf(() => limit.take(alice, masked))).toMatchObject({ limit: "tokenizationsPerMaskedPan", retryAfter_ms: 3_000_000 });
  limitOf(() => limit.take(alice, masked));
  limit.take(alice, "16.41111111.1112");
  limit.take(bob, masked);
  wait(3_000_000);
  limit.take(alice, masked);
});

test("guessing is told of at half the limit and at the limit, once in an hour", () => {
  const { limit, alerts, wait } = guessLimit({ tokenizationsPerMaskedPan: 4 });
  limit.take(alice, masked);
  expect(alerts).toEqual([]);
  limit.take(alice, masked);
  expect(alerts).toEqual([`suspected ${alice.id}`]);
  limit.take(alice, masked);
  limit.take(alice, masked);
  expect(alerts).toHaveLength(1);
  for (let i = 0; i < 70_000; i += 1) limitOf(() => limit.take(alice, masked));
  expect(alerts).toEqual([`suspected ${alice.id}`, `reached ${alice.id}`]);
  wait(3_600_000);
  limit.take(alice, masked);
  limit.take(alice, masked);
  expect(alerts).toHaveLength(3);
});

test("no number of other cards makes a limit forget a count, and a million of them reach none", () => {
  const { limit, alerts } = guessLimit({ tokenizationsPerMaskedPan: 100 });
  for (let i = 0; i < 100; i += 1) limit.take(alice, masked);
  expect(alerts).toEqual([`suspected ${alice.id}`]);
  let sharing = 0;
  for (let i = 0; i < 300_000; i += 1) {
    if (i % 100_000 === 0) limitOf(() => limit.take(alice, masked));
    // Some share the counter of the card that is guessed.
    if (isLimited(() => limit.take(alice, `16.${40_000_000 + (i % 997)}.${i}`))) sharing += 1;
  }
  limitOf(() => limit.take(alice, masked));
  expect(sharing).toBeLessThan(10);
  const other = guessLimit({ tokenizationsPerMaskedPan: 100 });
  for (let i = 0; i < 1_000_000; i += 1) other.limit.take(bob, `16.${40_000_000 + (i % 997)}.${i}`);
  expect(other.alerts).toEqual([]);
});

test("so many principals are watched as principalsWatched says; one more is refused until the first hour has ended", () => {
  const { limit, wait } = guessLimit({ principalsWatched: 2 });
  const carol = { id: "spiffe://cardex.test/tenant/acme/carol", tenant: "acme" };
  limit.take(alice, masked);
  wait(1_000_000);
  limit.take(bob, masked);
  expect(limitOf(() => limit.take(carol, masked))).toMatchObject({ limit: "principalsWatched", retryAfter_ms: 2_600_000 });
  limit.take(alice, masked);
  wait(2_600_000);
  limit.take(carol, masked);
  expect(limitOf(() => limit.take(alice, masked))).toMatchObject({ limit: "principalsWatched", retryAfter_ms: 1_000_000 });
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
