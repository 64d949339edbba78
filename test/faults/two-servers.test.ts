import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { grantRole, revokeRole } from "../../src/access/administration.js";
import { type CardexClient, CardStatus, Purpose } from "../../src/client/index.js";
import { spiffeId } from "../../src/dev/certificates.js";
import { demoTenant, trustDomain } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Database } from "../../src/store/database.js";
import { Admin, until } from "../support/admin.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { once } from "../support/load.js";
import { verifiedEntries } from "../support/vault.js";

let vault: TestInstallation;
let admin: Admin;
let owner: Database;
let onA: CardexClient;
let onB: CardexClient;
let operations: CardexClient;

beforeAll(async () => {
  vault = await startInstallation({ servers: 2 });
  admin = new Admin(vault.database.adminUrl);
  owner = new Database({ ...vault.database.service, url: vault.database.ownerUrl, role: "cardex_owner" });
  onA = await vault.client("payment-gateway", { server: 0, retries: once });
  onB = await vault.client("payment-gateway", { server: 1, retries: once });
  operations = await vault.client("card-operations", { server: 0 });
});

afterAll(async () => {
  await verifiedEntries(admin);
  await owner?.close();
  await admin?.close();
  await vault?.stop();
});

const expiry = { year: 2090, month: 1 };

async function newToken(card: number, max_uses = 0): Promise<{ token: string; pan: string }> {
  const { pan } = testCard(card);
  return { pan, token: (await onA.tokens.tokenize({ pan, expiry, options: { maxUses: max_uses } })).token };
}

test("64 clients that tokenize one PAN at once over two servers make one card, and each its own token", async () => {
  const { pan } = testCard(1);
  const clients = await Promise.all(Array.from({ length: 64 }, (_, i) => vault.client("payment-gateway", { server: i % 2, retries: once })));
  const answers = await Promise.all(clients.map((client) => client.tokens.tokenize({ pan, expiry, requestId: randomUUID() })));
  expect(await admin.count("select count(*) from cards")).toBe(1);
  expect(new Set(answers.map(({ indexCode }) => indexCode)).size).toBe(1);
  expect(new Set(answers.map(({ token }) => token)).size).toBe(64);
  expect(answers.filter(({ cardKnown }) => !cardKnown)).toHaveLength(1);
});

test("64 clients that send one request_id at once over two servers get the same answer, of one tokenization", async () => {
  const request = { pan: testCard(2).pan, expiry, requestId: randomUUID() };
  const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? onA : onB).tokens.tokenize(request)));
  expect(new Set(answers.map(({ token }) => token)).size).toBe(1);
  expect(await admin.count("select count(*) from tokens where token = $1", [answers[0]?.token])).toBe(1);
});

test("a card that one server was told is lost does not detokenize on the other at the very next call", async () => {
  const { token, pan } = await newToken(3);
  expect((await onB.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
  await operations.cards.setCardStatus({ card: { key: { case: "token", value: token } }, status: CardStatus.LOST });
  await expect(onB.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).rejects.toMatchObject({ codeName: "FAILED_PRECONDITION", reason: "CARD_STATUS" });
  expect((await onB.tokens.detokenize({ token, purpose: Purpose.REFUND })).pan).toBe(pan);
});

test("a card reported lost while its reveal waits in the middle of its transaction is not revealed", async () => {
  const { token } = await newToken(4, 5);
  const release = await admin.hold("select 1 from tokens where token = $1", [token]);
  const answer = onB.tokens.detokenize({ token, purpose: Purpose.PAYMENT }).catch((error: unknown) => error);
  await admin.untilHeld();
  await operations.cards.setCardStatus({ card: { key: { case: "token", value: token } }, status: CardStatus.STOLEN });
  await release();
  expect(await answer).toMatchObject({ reason: "CARD_STATUS" });
});

describe("a change of the policy", () => {
  const gateway = spiffeId(trustDomain, demoTenant, "payment-gateway");

  test("holds for a call that is under way: decided, then held in its transaction, it ends DENIED and without the PAN", async () => {
    const { token } = await newToken(5, 5);
    const release = await admin.hold("select 1 from tokens where token = $1", [token]);
    const answer = onB.tokens.detokenize({ token, purpose: Purpose.PAYMENT }).catch((error: unknown) => error);
    await admin.untilHeld();
    await revokeRole(owner, gateway, demoTenant, "payment-gateway");
    await release();
    const refusal = await answer;
    await grantRole(owner, gateway, demoTenant, "payment-gateway");
    expect(refusal).toMatchObject({ reason: "UNKNOWN_PRINCIPAL", codeName: "UNAUTHENTICATED" });
    expect(await admin.count("select uses_left as count from tokens where token = $1", [token])).toBe(5);
    const entries = (await verifiedEntries(admin)).filter((entry) => JSON.stringify(entry).includes(token) && entry["rpc"] === "cardex.v1.TokenService/Detokenize");
    expect(entries.map((entry) => entry["outcome"])).toEqual(["denied"]);
  });

  test("made anywhere holds on every server from the next reveal on: a rule that is removed, and one that denies", async () => {
    const { token, pan } = await newToken(6);
    const rule = "('p', 'payment-gateway', '*', 'TokenService', '*', 'PAYMENT', 'allow', '')";
    const columns = "(ptype, v0, v1, v2, v3, v4, v5, v6)";
    const denial = `('p', '${gateway}', '${demoTenant}', 'TokenService', 'Detokenize', '*', 'deny', '')`;
    for (const [change, back] of [
      [`delete from policy_rules where ${columns.slice(1, -1).split(", ").map((column, i) => `${column} = ${rule.slice(1, -1).split(", ")[i] ?? ""}`).join(" and ")}`, `insert into policy_rules ${columns} values ${rule}`],
      [`insert into policy_rules ${columns} values ${denial}`, `delete from policy_rules where v0 = '${gateway}' and ptype = 'p'`],
    ] as const) {
      expect((await onB.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
      await admin.admin(change);
      for (const client of [onA, onB]) await expect(client.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).rejects.toMatchObject({ reason: "DENIED" });
      await admin.admin(back);
      // What was denied may be denied for as long as the news takes: nothing waits for a policy that allows more.
      for (const client of [onA, onB]) await until(async () => (await client.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan === pan);
    }
  });

  test("lets a new principal in on every server without a restart, and one that is removed out, also on its open connection", async () => {
    const newcomer = spiffeId(trustDomain, demoTenant, "newcomer");
    const pair = await vault.issue({ name: "newcomer", usage: "client", uris: [newcomer] });
    const clients = [await vault.clientWith(pair, { server: 0, retries: once }), await vault.clientWith(pair, { server: 1, retries: once })];
    const { token, pan } = await newToken(7);
    for (const client of clients) await expect(client.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).rejects.toMatchObject({ reason: "UNKNOWN_PRINCIPAL" });
    await grantRole(owner, newcomer, demoTenant, "payment-gateway");
    for (const client of clients) await until(async () => (await client.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan === pan);
    await revokeRole(owner, newcomer, demoTenant, "payment-gateway");
    for (const client of clients) {
      await expect(client.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).rejects.toMatchObject({ reason: "UNKNOWN_PRINCIPAL" });
      await expect(client.cards.getCard({ card: { key: { case: "token", value: token } } })).rejects.toMatchObject({ reason: "UNKNOWN_PRINCIPAL" });
    }
  });
});
