import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CardexClient, CardexError, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin } from "../support/admin.js";
import { entriesAbout } from "../support/entries.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { once } from "../support/load.js";
import { verifiedEntries } from "../support/vault.js";

let vault: TestInstallation;
let admin: Admin;
let gateway: CardexClient;
let risk: CardexClient;

beforeAll(async () => {
  vault = await startInstallation();
  admin = new Admin(vault.database.adminUrl);
  gateway = await vault.client("payment-gateway", { retries: once });
  risk = await vault.client("risk-system", { retries: once });
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

/** What takes the audit log away, and what gives it back. */
const ways = [
  ["may not be written", "revoke insert on audit_entries from cardex_service", "grant insert on audit_entries to cardex_service"],
  [
    "has no room",
    "alter table audit_entries add constraint no_room check (false) not valid",
    "alter table audit_entries drop constraint no_room",
  ],
] as const;

test.each(ways)("while the audit log %s no PAN leaves and nothing is done, single or together; afterwards all of it works", async (_, away, back) => {
  const { pan } = testCard(1);
  const expiry = { year: 2090, month: 1 };
  const { token } = await gateway.tokens.tokenize({ pan, expiry });
  const requestId = randomUUID();
  const calls = [
    () => gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT }),
    () => gateway.tokens.batchDetokenize({ purpose: Purpose.PAYMENT, items: [{ token }, { token }] }),
    () => gateway.tokens.tokenize({ pan: testCard(2).pan, expiry, requestId }),
    () => gateway.tokens.getToken({ token }),
    () => risk.cards.getCard({ card: { key: { case: "token", value: token } } }),
    () => risk.tokens.detokenize({ token, purpose: Purpose.PAYMENT }),
  ];
  const before = await admin.count("select count(*) from tokens");
  await admin.admin(away);
  try {
    const refusals = await Promise.all([...calls, ...calls].map((call) => call().catch((error: unknown) => error)));
    for (const refusal of refusals) {
      expect(refusal).toBeInstanceOf(CardexError);
      expect(refusal).toMatchObject({ codeName: "UNAVAILABLE", reason: "STORE_UNAVAILABLE", retryAfter_ms: expect.any(Number) as number });
    }
  } finally {
    await admin.admin(back);
  }
  expect(await admin.count("select count(*) from tokens")).toBe(before);
  expect((await entriesAbout(admin, token)).filter((entry) => entry["outcome"] === "released")).toEqual([]);
  const [revealed, batch, made] = await Promise.all([
    gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT }),
    gateway.tokens.batchDetokenize({ purpose: Purpose.PAYMENT, items: [{ token }] }),
    gateway.tokens.tokenize({ pan: testCard(2).pan, expiry, requestId }),
  ]);
  expect(revealed.pan).toBe(pan);
  expect(batch.results[0]?.result).toMatchObject({ case: "response" });
  expect((await gateway.tokens.tokenize({ pan: testCard(2).pan, expiry, requestId })).token).toBe(made.token);
  await verifiedEntries(admin);
});
