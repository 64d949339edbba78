import { constants } from "node:fs";
import { access } from "node:fs/promises";
import type { Hsm } from "../../../hsm/hsm.js";
import type { Config } from "../../config.js";
import { Database } from "../../store/database.js";
import { listRegisteredKeys, type RegisteredKey } from "../../store/keys.js";
import { withHsm } from "../administration.js";
import type { Shell } from "../shell.js";
import { fail, type Finding, findingsOf, ok, warn } from "./check.js";

/** The library, the PIN, the token, and each registered key against the token's own. Logs in once, as every process does. */
export async function checkHsm(shell: Shell, config: Config): Promise<readonly Finding[]> {
  const library = await findingsOf("HSM library", "install it, or correct hsm.library", async () => {
    await access(config.hsm.library, constants.R_OK);
    return [ok("HSM library", config.hsm.library)];
  });
  if (library.some(({ result }) => result === "fail")) return library;
  const database = new Database({ ...config.database, pool: 2 });
  try {
    const token = await findingsOf("HSM token", "check hsm.tokenLabel and the PIN; a refused PIN is tried again only after: cardex keys clear-refusal", async () => {
      const keys = await listRegisteredKeys(database);
      return await withHsm(shell, config, database, async (hsm) => [await tokenFinding(hsm, config), ...(await keyFindings(hsm, keys))]);
    });
    return [...library, ...token];
  } finally {
    await database.close();
  }
}

async function tokenFinding(hsm: Hsm, config: Config): Promise<Finding> {
  const { state, provider, tokenSerial } = await hsm.health();
  const found = `${config.hsm.tokenLabel} (serial ${tokenSerial}, ${provider}): ${state}`;
  return state === "ready" ? ok("HSM token", found) : fail("HSM token", found, "look at the HSM's own log");
}

async function keyFindings(hsm: Hsm, keys: readonly RegisteredKey[]): Promise<Finding[]> {
  const missing = ["fingerprint", "request", "audit"].filter((purpose) => !keys.some((key) => key.purpose === purpose && key.state === "active"));
  const findings = missing.map((purpose) => fail("keys", `there is no active ${purpose} key`, "run: cardex keys init"));
  if (!keys.some(({ purpose }) => purpose === "pan")) findings.push(warn("keys", "there is no tenant yet", "run: cardex tenants add"));
  for (const key of keys.filter(({ state }) => state !== "destroyed")) findings.push(...(await findingsOf(`key ${key.label}`, "restore it from the HSM's backup; do not make another", () => keyFinding(hsm, key))));
  return findings;
}

/** PCI DSS 3.7.7: the key is the one that was registered; 3.7.1: it was made in the HSM and never leaves it. */
async function keyFinding(hsm: Hsm, key: RegisteredKey): Promise<Finding[]> {
  const what = `key ${key.label}`;
  const found = await hsm.describeKey({ id: key.ckaId, kind: key.kind });
  if (found.checkValue !== key.checkValue) return [fail(what, `check value ${found.checkValue}, registered with ${key.checkValue}`, "it was replaced: find out by whom, and restore the right one")];
  if (!found.local || !found.sensitive || found.extractable || !found.neverExtractable) return [fail(what, "could have left the HSM", "treat it as compromised")];
  return [ok(what, `check value ${found.checkValue}, ${key.state}`)];
}
