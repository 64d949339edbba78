import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CardexClient, CardexError, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin, until } from "../support/admin.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { once } from "../support/load.js";
import { metric } from "../support/probe.js";
import { verifiedEntries } from "../support/vault.js";

const limits = { callsInFlight: 80, callsInFlightPerPrincipal: 64, connections: 8 };
const { pan } = testCard(1);
const expiry = { year: 2090, month: 1 };

let vault: TestInstallation;
let admin: Admin;
let gateway: CardexClient;
let operations: CardexClient;
let risk: CardexClient;
let token: string;

beforeAll(async () => {
  vault = await startInstallation({ overrides: { limits }, env: { NODE_OPTIONS: "--max-old-space-size=80" } });
  admin = new Admin(vault.database.adminUrl);
  [gateway, operations, risk] = await Promise.all([
    vault.client("payment-gateway", { retries: once }),
    vault.client("card-operations", { retries: once }),
    vault.client("risk-system", { retries: once }),
  ]);
  ({ token } = await gateway.tokens.tokenize({ pan, expiry }));
  await Promise.all([getCard(risk), getCard(operations)]);
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

function getCard(by: CardexClient): Promise<unknown> {
  return by.cards.getCard({ card: { key: { case: "token", value: token } } });
}

/** How often calls of this kind were refused, as the log sums it. */
async function refusals(what: string): Promise<number> {
  const sums = (await verifiedEntries(admin)).filter((entry) => entry["kind"] === "refusals" && entry["what"] === what);
  return sums.reduce((sum, entry) => sum + Number(entry["count"]), 0);
}

test("calls beyond what may be under way are refused at once, with a time to come back, while others go on; the log has their sums", async () => {
  const inFlight = (count: number) => until(async () => (await metric(vault.server(), "cardex_calls_in_flight")) === count);
  const release = await admin.hold("select 1 from cards where card_id = (select card_id from tokens where token = $1)", [token]);
  // The card is held: what changes it waits, and every other mutation behind it.
  const rotate = () => operations.cards.rotateIndexCode({ card: { key: { case: "token", value: token } } });
  const waiting: Promise<unknown>[] = Array.from({ length: limits.callsInFlightPerPrincipal }, rotate);
  await inFlight(limits.callsInFlightPerPrincipal);
  for (const refusal of await Promise.all(Array.from({ length: 5 }, () => rotate().catch((error: unknown) => error)))) {
    expect(refusal).toBeInstanceOf(CardexError);
    expect(refusal).toMatchObject({ codeName: "RESOURCE_EXHAUSTED", reason: "LIMIT", limit: "callsInFlightPerPrincipal", retryAfter_ms: expect.any(Number) as number });
  }
  expect((await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
  await getCard(risk);
  waiting.push(...Array.from({ length: limits.callsInFlight - limits.callsInFlightPerPrincipal }, (_, i) => gateway.tokens.tokenize({ pan: testCard(2 + i).pan, expiry })));
  await inFlight(limits.callsInFlight);
  await expect(getCard(risk)).rejects.toMatchObject({ codeName: "RESOURCE_EXHAUSTED", limit: "callsInFlight", retryAfter_ms: expect.any(Number) as number });
  await release();
  // One that waited for the card for too long may have been told so.
  for (const ended of await Promise.allSettled(waiting)) if (ended.status === "rejected") expect(ended.reason).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  await getCard(risk);
  await until(async () => (await refusals("callsInFlightPerPrincipal")) === 5 && (await refusals("callsInFlight")) === 1);
});

test("connections beyond the limit are dropped and summed; those that stand go on, and a place that is free again is given away", async () => {
  const sockets: Socket[] = Array.from({ length: 12 }, () => connect(vault.server().port, "127.0.0.1").on("error", () => undefined));
  await until(() => sockets.filter((socket) => socket.closed).length >= 7);
  const late = await vault.client("payment-gateway", { retries: once, deadline_ms: 5000 });
  await expect(late.tokens.getToken({ token })).rejects.toMatchObject({ codeName: "UNAVAILABLE" });
  expect((await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
  for (const socket of sockets) socket.destroy();
  await until(async () => (await (await vault.client("payment-gateway", { retries: once })).tokens.getToken({ token })).token !== undefined);
  await until(async () => (await refusals("connections")) >= 8);
});

test("20,000 calls leave the memory of a server as it was", async () => {
  const calls = [
    () => gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT }),
    () => getCard(risk),
    () => gateway.tokens.getToken({ token: "tok_unknown" }).catch(() => undefined),
    () => risk.tokens.detokenize({ token, purpose: Purpose.PAYMENT }).catch(() => undefined),
  ];
  /** What stays in use while so many calls are made: the least of many readings, which is that after a collection. */
  const heapOver = async (count: number): Promise<number> => {
    const readings: number[] = [];
    for (let done = 0; done < count; done += 500) {
      let next = 0;
      await Promise.all(
        Array.from({ length: 60 }, async () => {
          while (next < 500) await calls[next++ % calls.length]?.();
        }),
      );
      readings.push(await metric(vault.server(), "nodejs_heap_size_used_bytes"));
    }
    return Math.min(...readings);
  };
  await heapOver(4000);
  const early = await heapOver(8000);
  const late = await heapOver(8000);
  // Two kilobytes a call would show. What is collected late is not counted: the heap has little room.
  expect(late - early).toBeLessThan(16_000_000);
});
