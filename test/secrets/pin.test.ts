import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin } from "../support/admin.js";
import { cardex } from "../support/command.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { visibleOf } from "../support/process-files.js";

let vault: TestInstallation;
let admin: Admin;
let pin: string;

beforeAll(async () => {
  vault = await startInstallation({ overrides: { log: { level: "trace" } } });
  admin = new Admin(vault.database.adminUrl);
  pin = (await readFile(vault.layout.userPin, "utf8")).trim();
  const gateway = await vault.client("payment-gateway");
  const { token } = await gateway.tokens.tokenize({ pan: testCard(1).pan, expiry: { year: 2090, month: 1 } });
  await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

/** Starts the server, which must end by itself, and answers how it ended. */
async function endsAtStart(): Promise<{ readonly code: number | null; readonly text: string }> {
  await expect(vault.restart()).rejects.toThrow();
  const { code, lastLines } = await vault.server().process.ended;
  return { code, text: lastLines.join("\n") };
}

test.runIf(existsSync("/proc/self/task"))("the PIN and the database's password are in no argument and no environment of the server and what is below it", async () => {
  const seen = await visibleOf(vault.server().process.pid);
  expect(seen.length).toBeGreaterThanOrEqual(2);
  const secrets = [pin, (await readFile(vault.layout.securityOfficerPin, "utf8")).trim(), new URL(vault.database.service.url).password];
  // The search finds what is there: the path of the configuration is an argument.
  expect(seen.some((text) => text.includes(vault.server().configFile))).toBe(true);
  for (const secret of secrets) expect(seen.filter((text) => text.includes(secret))).toEqual([]);
});

test("a refused PIN ends the server with exit code 77 and is not tried again, not even the right one, until an operator clears it", async () => {
  const wrong = "wrong-pin-40981";
  await writeFile(vault.layout.userPin, `${wrong}\n`);
  const refused = await endsAtStart();
  expect(refused.code).toBe(77);
  expect(refused.text).toMatch(/refused the PIN/);
  const [refusal] = await admin.admin<{ state: string; changed_at: Date; process: number }>("select state, changed_at, process from hsm_logins");
  expect(refusal).toMatchObject({ state: "refused", process: vault.server().process.pid });

  await writeFile(vault.layout.userPin, `${pin}\n`);
  const again = await endsAtStart();
  expect(again.code).toBe(77);
  expect(again.text).toMatch(/not tried again.*keys clear-refusal/);
  expect(await admin.admin("select state, changed_at, process from hsm_logins")).toEqual([refusal]);

  const cleared = await cardex(["keys", "clear-refusal", "--state", vault.layout.folder], { env: { CARDEX_OWNER_DATABASE_URL: vault.database.ownerUrl } });
  expect(cleared).toMatchObject({ code: 0, stdout: expect.stringContaining("cleared") as string });
  await vault.restart();

  const log = await readFile(vault.server().logFile, "utf8");
  for (const secret of [pin, wrong, new URL(vault.database.service.url).password]) {
    expect(log).not.toContain(secret);
    expect(log).not.toContain(Buffer.from(secret).toString("base64").replace(/=+$/, "").slice(0, -1));
    expect(log).not.toContain(Buffer.from(secret).toString("hex"));
  }
});
