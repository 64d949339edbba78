import { rename } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CardexClient, CardexError, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin, until } from "../support/admin.js";
import { resourcesOf } from "../support/entries.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { once } from "../support/load.js";
import { readiness } from "../support/probe.js";
import { verifiedEntries } from "../support/vault.js";

const { pan } = testCard(1);
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

test("a token that goes away under a running server is noticed without anybody asking; no PAN leaves until it is back, and then all works without a restart", async () => {
  const { token } = await gateway.tokens.tokenize({ pan, expiry });
  const { pid } = vault.server().process;
  const away = `${vault.layout.hsm}.away`;
  await rename(vault.layout.hsm, away);
  // The lanes have copies of the keys, and could go on for ever.
  let refusal: unknown;
  await until(async () => {
    refusal = await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT }).catch((error: unknown) => error);
    return refusal instanceof CardexError;
  });
  expect(refusal).toMatchObject({ codeName: "UNAVAILABLE", reason: "HSM_UNAVAILABLE", retryAfter_ms: expect.any(Number) as number });
  await expect(gateway.tokens.tokenize({ pan: testCard(2).pan, expiry })).rejects.toMatchObject({ reason: "HSM_UNAVAILABLE" });
  // What needs no key goes on.
  expect((await gateway.tokens.getToken({ token })).token?.token).toBe(token);
  expect(await readiness(vault.server())).toMatchObject({ status: 503, checks: { hsm: { ok: false } } });
  await rename(away, vault.layout.hsm);
  await until(async () => (await readiness(vault.server())).status === 200);
  expect((await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
  expect((await gateway.tokens.tokenize({ pan: testCard(2).pan, expiry })).cardKnown).toBe(false);
  expect(vault.server().process.pid).toBe(pid);
  const entries = await verifiedEntries(admin);
  expect(entries.some((entry) => entry["log"] === "system" && entry["kind"] === "alert.hsm.recovering")).toBe(true);
  const failed = entries.filter((entry) => entry["outcome"] === "failed").flatMap((entry) => [entry["reason"], ...resourcesOf(entry).map(({ reason }) => reason)]);
  expect(new Set(failed.filter((reason) => reason !== undefined))).toEqual(new Set(["hsm device"]));
});
