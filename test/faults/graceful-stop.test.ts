import { afterAll, beforeAll, expect, test } from "vitest";
import { Admin } from "../support/admin.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { Load, loadClients } from "../support/load.js";
import { expectTruth } from "../support/load-truth.js";
import { verifiedEntries } from "../support/vault.js";

let vault: TestInstallation;
let admin: Admin;

beforeAll(async () => {
  vault = await startInstallation();
  admin = new Admin(vault.database.adminUrl);
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

test("SIGTERM under load: calls under way end well, later ones are UNAVAILABLE, the process ends with 0 and its last entry says so", async () => {
  const load = new Load();
  load.start(24, await loadClients(vault, 2));
  await load.more(150);
  const { pid } = vault.server().process;
  const ending = await vault.server().process.stop();
  await load.stop();
  expect(ending).toMatchObject({ code: 0, signal: null });
  // Whatever was sent and not answered was not done; whatever was done was answered.
  expect(load.refusals).toEqual(new Set(["UNAVAILABLE"]));
  const acknowledged = load.deeds.filter((deed) => deed.kind === "tokenize" && deed.answer !== undefined).length;
  expect(await admin.count("select count(*) from tokens")).toBe(acknowledged);

  const system = (await verifiedEntries(admin)).filter((entry) => entry["log"] === "system" && entry["pid"] === pid).map((entry) => entry["kind"]);
  expect(system).toEqual(["audit.start", "audit.stop"]);
  await vault.restart();
  await expectTruth(load, await loadClients(vault, 2), admin);
});
