import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Admin } from "../support/admin.js";
import { openProxy, type PostgresProxy } from "../support/postgres-proxy.js";
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

test.each([
  ["is away", (proxy: PostgresProxy) => proxy.down()],
  ["hangs", (proxy: PostgresProxy) => proxy.hang()],
])("SIGTERM while PostgreSQL %s: the process ends with 0 within seconds, and warns that its last entry is missing", async (_, fault) => {
  let proxy: PostgresProxy | undefined;
  const alone = await startInstallation({
    overrides: { database: { connect_ms: 500, statement_ms: 500 } },
    databaseThrough: async (url) => {
      proxy = await openProxy(url);
      return proxy.url;
    },
  });
  try {
    if (proxy === undefined) throw new Error("the installation has no proxy");
    fault(proxy);
    const ending = await alone.server().process.stop();
    expect(ending).toMatchObject({ code: 0, signal: null });
    expect(await readFile(alone.server().logFile, "utf8")).toContain("the entry audit.stop could not be committed");
  } finally {
    await alone.stop();
    await proxy?.close();
  }
});
