import { afterAll, beforeAll, test } from "vitest";
import { Admin } from "../support/admin.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { Load, loadClients } from "../support/load.js";
import { expectTruth } from "../support/load-truth.js";

let vault: TestInstallation;
let admin: Admin;

beforeAll(async () => {
  vault = await startInstallation({ servers: 2 });
  admin = new Admin(vault.database.adminUrl);
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
});

test("kill -9 of servers under load loses no acknowledged mutation, does none twice, and breaks no chain", async () => {
  const load = new Load();
  load.start(24, await loadClients(vault, 2));
  for (const victim of [0, 1]) {
    await load.more(150);
    await vault.kill9(victim);
    await load.more(60);
    await vault.restart(victim);
  }
  await Promise.all([vault.kill9(0), vault.kill9(1)]);
  await Promise.all([vault.restart(0), vault.restart(1)]);
  load.start(24, await loadClients(vault, 2));
  await load.more(200);
  await load.stop();
  await expectTruth(load, await loadClients(vault, 1), admin);
});
