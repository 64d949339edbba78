import { afterAll, beforeAll, expect, test } from "vitest";
import { type CardexClient, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin, until } from "../support/admin.js";
import { entriesAbout, releasedByToken, resourcesOf } from "../support/entries.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { once } from "../support/load.js";
import { openProxy } from "../support/postgres-proxy.js";
import { metric } from "../support/probe.js";
import { verifiedEntries } from "../support/vault.js";

const rpc = "cardex.v1.TokenService/Detokenize";
const expiry = { year: 2090, month: 1 };

let vault: TestInstallation;
let admin: Admin;
let gateway: CardexClient;

beforeAll(async () => {
  vault = await startInstallation();
  admin = new Admin(vault.database.adminUrl);
  gateway = await vault.client("payment-gateway", { retries: once });
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

/** Nothing is under way and nothing waits to be written. */
async function untilQuiet(): Promise<void> {
  const server = vault.server();
  await until(async () => {
    for (const name of ["cardex_calls_in_flight", "cardex_reveal_writer_waiting", "cardex_notice_writer_waiting"]) if ((await metric(server, name)) > 0) return false;
    return true;
  });
}

/** Hangs up by `hangUp` while the reveal of a token is held in the middle of its transaction; answers how the log tells it. */
async function hungUp(card: number, by: CardexClient, hangUp: () => void, signal?: AbortSignal): Promise<string[]> {
  const { token } = await gateway.tokens.tokenize({ pan: testCard(card).pan, expiry, options: { maxUses: 3 } });
  const release = await admin.hold("select 1 from tokens where token = $1", [token]);
  const answer = by.tokens.detokenize({ token, purpose: Purpose.PAYMENT }, { signal }).catch((error: unknown) => error);
  await admin.untilHeld();
  hangUp();
  expect(await answer).toBeInstanceOf(Error);
  await release();
  await until(async () => (await entriesAbout(admin, token)).some((entry) => entry["rpc"] === rpc));
  await untilQuiet();
  await until(async () => (await entriesAbout(admin, token)).every((entry) => entry["outcome"] !== "released") || (await entriesAbout(admin, token)).some((entry) => entry["kind"] === "withheld"));
  return (await entriesAbout(admin, token)).filter((entry) => entry["rpc"] === rpc).map((entry) => String(entry["outcome"])).toSorted();
}

test("a caller that cancels while its reveal is committed did not get the PAN, and the log says so", async () => {
  const cancel = new AbortController();
  expect(await hungUp(1, gateway, () => cancel.abort(), cancel.signal)).toEqual(["released", "withheld"]);
});

test("a caller whose connection breaks while its reveal is committed did not get the PAN, and the log says so", async () => {
  const line = await openProxy(`tcp://127.0.0.1:${vault.server().port}`);
  const caller = await vault.client("payment-gateway", { retries: once, address: new URL(line.url).host });
  try {
    await caller.tokens.listTokens({ card: { key: { case: "token", value: "tok_" } } }).catch(() => undefined);
    expect(await hungUp(2, caller, () => line.down())).toEqual(["released", "withheld"]);
  } finally {
    await line.close();
  }
});

test("of 1,000 calls with deadlines of 1 ms and little more, each that came to the server has its entry, and none got a PAN that the log does not tell of", async () => {
  const { pan } = testCard(3);
  const { token } = await gateway.tokens.tokenize({ pan, expiry });
  const clients = await Promise.all(Array.from({ length: 10 }, () => vault.client("payment-gateway", { retries: once })));
  await Promise.all(clients.map((client) => client.tokens.getToken({ token })));
  const before = await metric(vault.server(), "cardex_calls_total", rpc);
  const entriesBefore = (await verifiedEntries(admin)).filter((entry) => entry["kind"] === "call" && entry["rpc"] === rpc).length;
  let received = 0;
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const answer = await clients[i % 10]?.tokens.detokenize({ token, purpose: Purpose.PAYMENT }, { deadline_ms: 1 + (i % 5) * (i % 7) }).catch(() => undefined);
        if (answer !== undefined) received += 1;
        if (answer !== undefined) expect(answer.pan).toBe(pan);
      }),
    );
  }
  await untilQuiet();
  const arrived = (await metric(vault.server(), "cardex_calls_total", rpc)) - before;
  expect(arrived).toBeGreaterThan(100);
  await until(async () => {
    const entries = (await verifiedEntries(admin)).filter((entry) => entry["rpc"] === rpc);
    return entries.filter((entry) => entry["kind"] === "call").length - entriesBefore === arrived;
  });
  const entries = await verifiedEntries(admin);
  expect(releasedByToken(entries).get(token) ?? 0).toBeGreaterThanOrEqual(received);
  const reasons = new Set(entries.filter((entry) => entry["outcome"] === "failed" && resourcesOf(entry).every((resource) => resource.outcome !== "released")).map((entry) => entry["reason"]));
  expect([...reasons].filter((reason) => !["DEADLINE", "CANCELLED"].includes(String(reason)))).toEqual([]);
});
