import { afterAll, beforeAll, expect, test } from "vitest";
import { Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";

let vault: TestInstallation;

beforeAll(async () => {
  vault = await startInstallation({ servers: 2 });
});

afterAll(async () => {
  await vault?.stop();
});

test("a card that one server took is given back by the other, also after both were killed with kill -9", async () => {
  const { pan } = testCard(7);
  const first = await vault.client("payment-gateway");
  const { token } = await first.tokens.tokenize({ pan, expiry: { year: 2035, month: 1 } });
  const second = await vault.client("payment-gateway", { server: 1 });
  expect((await second.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
  await Promise.all([vault.kill9(0), vault.kill9(1)]);
  await Promise.all([vault.restart(0), vault.restart(1)]);
  expect((await first.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
});
