import { rename } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openHsm } from "../../hsm/driver.js";
import type { Hsm, KeyMaker } from "../../hsm/hsm.js";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { workInSecondProcess } from "../../test/support/second-process.js";
import { CountingGuard, freshToken, silentObserver, type FreshToken } from "../../test/support/token.js";
import { defaultLimits } from "../../test/support/vault.js";
import { Database } from "../store/database.js";
import { startHousekeeping } from "../housekeeping.js";
import { addTenant, initializeKeys } from "./initialize.js";
import { KeyRing, type KeyAlert } from "./key-ring.js";

const text = Buffer.from("text");
const integrity = { reason: "INTEGRITY" };

describe("keys that others change on the token", () => {
  let token: FreshToken;
  let hsm: Hsm & KeyMaker;
  let fresh: FreshDatabase;
  let database: Database;
  let ring: KeyRing;
  let alerts: KeyAlert[];

  beforeEach(async () => {
    [fresh, token] = await Promise.all([freshDatabase(), freshToken()]);
    database = new Database(fresh.service);
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
    await initializeKeys(hsm, hsm, owner, "a custodian");
    for (const tenant of ["acme", "globex"]) await addTenant(hsm, hsm, owner, "an administrator", tenant);
    await owner.close();
    alerts = [];
    ring = await KeyRing.open(hsm, database, (alert) => alerts.push(alert));
  });

  afterEach(async () => {
    vi.useRealTimers();
    await hsm.close();
    await database.close();
    await Promise.all([fresh.close(), token.close()]);
  });

  const admin = async (statement: string, values: unknown[]): Promise<void> => {
    const client = new pg.Client({ connectionString: fresh.adminUrl });
    await client.connect();
    await client.query(statement, values);
    await client.end();
  };
  const alerted = () => alerts.map((each) => each.purpose).toSorted();

  it("3.7.7: a key swapped on the token stops being used within an interval and alerts", async () => {
    const [acme, globex] = [(await ring.panForEncrypt("acme")).key, (await ring.panForEncrypt("globex")).key];
    const [request, audit] = [ring.request().key, ring.audit().key];
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const failures: unknown[] = [];
    const housekeeping = startHousekeeping({ database, hsm, keys: ring, limits: defaultLimits, onFailure: (job, error) => failures.push([job, error]) });
    await workInSecondProcess(token.options, { kind: "swap", names: [acme, request, audit] });
    vi.advanceTimersByTime(60_000);
    await vi.waitUntil(() => alerts.length === 3, { timeout: 30_000 });
    await housekeeping.stop();

    expect(alerted()).toEqual(["audit", "pan", "request"]);
    expect(failures).toEqual([]);
    await expect(ring.panForEncrypt("acme")).rejects.toMatchObject(integrity);
    await expect(ring.pan("acme", 1)).rejects.toMatchObject(integrity);
    expect(() => ring.request()).toThrow(expect.objectContaining(integrity));
    expect(() => ring.audit()).toThrow(expect.objectContaining(integrity));
    // Those who hold the key since before can't use it either, though the lanes' copies would still work.
    await expect(hsm.encrypt(acme, text, text)).rejects.toMatchObject({ errorClass: "key" });
    await expect(hsm.mac(request, text)).rejects.toMatchObject({ errorClass: "key" });
    await expect(hsm.sign(audit, text)).rejects.toMatchObject({ errorClass: "key" });
    expect((await hsm.encrypt(globex, text, text)).length).toBe(32);
    expect((await ring.panForEncrypt("globex")).key).toBe(globex);
  });

  it("alert once, not at every interval and not at every request", async () => {
    const { key } = await ring.panForEncrypt("acme");
    await workInSecondProcess(token.options, { kind: "swap", names: [key] });
    for (let interval = 0; interval < 3; interval += 1) {
      expect(await ring.verify()).toBe(1);
      await expect(ring.panForEncrypt("acme")).rejects.toMatchObject(integrity);
    }
    expect(alerted()).toEqual(["pan"]);
  });

  it("alert and stop also when a key was destroyed, the others going on without an interruption", async () => {
    const { key } = await ring.panForEncrypt("acme");
    await workInSecondProcess(token.options, { kind: "destroy", name: key });
    for (let turn = 0; turn < 8; turn += 1) expect((await hsm.health()).state).toBe("ready");
    await expect(hsm.encrypt(key, text, text)).rejects.toMatchObject({ errorClass: "key" });
    expect(await ring.verify()).toBe(1);
    expect(alerted()).toEqual(["pan"]);
  });

  it("are not taken for swapped while the token is away, and are used again when it is back", async () => {
    const { key } = await ring.panForEncrypt("acme");
    await rename(join(token.directory, "tokens"), join(token.directory, "gone"));
    await expect(ring.verify()).rejects.toMatchObject({ errorClass: "device" });
    await rename(join(token.directory, "gone"), join(token.directory, "tokens"));
    await vi.waitUntil(async () => (await hsm.health()).state === "ready", { timeout: 30_000 });
    expect(await ring.verify()).toBe(0);
    expect((await hsm.encrypt(key, text, text)).length).toBe(32);
    expect(alerts).toEqual([]);
  });

  it("are used again once they verify again, after a correction of the register for one, and alert anew at the next fault", async () => {
    const { checkValue } = (await ring.panForEncrypt("acme")).key;
    const register = (value: string) => admin("update cardex.keys set check_value = $1 where tenant = 'acme'", [value]);
    const other = await KeyRing.open(hsm, database, (alert) => alerts.push(alert));
    await register("ffffff");
    await expect(other.panForEncrypt("acme")).rejects.toMatchObject(integrity);
    await register(checkValue);
    await expect(other.panForEncrypt("acme")).rejects.toMatchObject(integrity);
    expect(await other.verify()).toBe(0);
    const { key } = await other.panForEncrypt("acme");
    expect((await hsm.encrypt(key, text, text)).length).toBe(32);
    expect(alerted()).toEqual(["pan"]);
    await workInSecondProcess(token.options, { kind: "swap", names: [key] });
    expect(await other.verify()).toBe(1);
    expect(alerted()).toEqual(["pan", "pan"]);
  });
});
