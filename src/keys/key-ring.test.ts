import { createPublicKey, verify } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openHsm } from "../../hsm/driver.js";
import type { Hsm, KeyMaker } from "../../hsm/hsm.js";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { CountingGuard, freshToken, silentObserver, type FreshToken } from "../../test/support/token.js";
import { Database } from "../store/database.js";
import { addTenant, initializeKeys } from "./initialize.js";
import { KeyRing, type KeyAlert } from "./key-ring.js";

const text = Buffer.from("text");
const aad = Buffer.from("aad");

describe("keys, their register and the ring", () => {
  let token: FreshToken;
  let hsm: Hsm & KeyMaker;
  let fresh: FreshDatabase;
  let service: Database;
  let owner: Database;
  let alerts: KeyAlert[];

  const openRing = () => KeyRing.open(hsm, service, (alert) => alerts.push(alert));
  const change = async (statement: string, values: unknown[] = []): Promise<void> => {
    const client = new pg.Client({ connectionString: fresh.adminUrl });
    await client.connect();
    await client.query(statement, values);
    await client.end();
  };

  beforeAll(async () => {
    [fresh, token] = await Promise.all([freshDatabase(), freshToken()]);
    service = new Database(fresh.service);
    owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    alerts = [];
  });

  afterAll(async () => {
    await hsm.close();
    await Promise.all([service.close(), owner.close()]);
    await Promise.all([fresh.close(), token.close()]);
  });

  it("says which command makes the keys that are missing, and makes none itself", async () => {
    await expect(openRing()).rejects.toMatchObject({ reason: "KEY_STATE", message: expect.stringContaining("cardex keys init") });
    expect(await hsm.listKeys()).toEqual([]);
  });

  it("makes the installation's keys once, however often and from wherever it is asked", async () => {
    const outcomes = await Promise.all([1, 2, 3].map(() => initializeKeys(hsm, hsm, owner, "a custodian")));
    expect(outcomes.flatMap((each) => each.made).map((each) => each.purpose).toSorted()).toEqual(["audit", "fingerprint", "request"]);
    const again = await initializeKeys(hsm, hsm, owner, "a custodian");
    expect(again.made).toEqual([]);
    expect(again.leftovers).toEqual([]);
    expect(again.present.map((each) => each.label).toSorted()).toEqual(["cardex audit v1", "cardex fingerprint v1", "cardex request v1"]);
    expect((await hsm.listKeys()).length).toBe(3);
  });

  it("adds a tenant with an institution number of its own and a key of its own, once", async () => {
    const acme = await addTenant(hsm, hsm, owner, "an administrator", "acme");
    expect(acme.created).toBe(true);
    expect(acme.tenant.institution).toMatch(/^[0-9]{4}$/);
    expect(acme.made[0]?.label).toBe("cardex pan acme v1");
    const again = await addTenant(hsm, hsm, owner, "an administrator", "acme");
    expect(again).toMatchObject({ created: false, made: [], tenant: acme.tenant });
    const other = acme.tenant.institution === "1234" ? "4321" : "1234";
    await expect(addTenant(hsm, hsm, owner, "x", "acme", other)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    await expect(addTenant(hsm, hsm, owner, "x", "globex", acme.tenant.institution)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    for (const wrong of ["", "system", "-a", "A", "a".repeat(33), "a b"]) {
      await expect(addTenant(hsm, hsm, owner, "x", wrong), wrong).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    }
  });

  it("reports a key that a killed process left on the token, and neither uses nor destroys it", async () => {
    const { id } = await hsm.generateKey("aes-256-gcm", "cardex pan initech v1");
    const { leftovers, made } = await addTenant(hsm, hsm, owner, "an administrator", "initech");
    expect(leftovers.map((each) => each.id)).toEqual([id]);
    expect(made[0]?.ckaId).not.toBe(id);
    await hsm.destroyKey({ id, kind: "aes-256-gcm" });
  });

  it("gives each purpose its key, and signs so that the registered public key verifies it", async () => {
    const ring = await openRing();
    expect(ring.fingerprint()).toMatchObject({ version: 1, key: { kind: "hmac-sha-256" } });
    expect(ring.request().key.id).not.toBe(ring.fingerprint().key.id);
    const { key, publicKey } = ring.audit();
    const x = Buffer.from(publicKey ?? "", "hex").toString("base64url");
    const signature = await hsm.sign(key, text);
    expect(verify(null, text, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }), signature)).toBe(true);
  });

  it("gives each tenant its own key, also one added while the server runs", async () => {
    const ring = await openRing();
    const acme = await ring.panForEncrypt("acme");
    await addTenant(hsm, hsm, owner, "an administrator", "hooli");
    const hooli = await ring.panForEncrypt("hooli");
    expect(hooli.key.id).not.toBe(acme.key.id);
    const sealed = await hsm.encrypt(acme.key, text, aad);
    expect(Buffer.from(await hsm.decrypt(await ring.pan("acme", 1), sealed, aad))).toEqual(text);
    await expect(hsm.decrypt(await ring.pan("hooli", 1), sealed, aad)).rejects.toMatchObject({ errorClass: "integrity" });
  });

  it("answers an unknown tenant or version with KEY_STATE", async () => {
    const ring = await openRing();
    await expect(ring.panForEncrypt("nobody")).rejects.toMatchObject({ reason: "KEY_STATE", message: expect.stringContaining("cardex tenants add") });
    await expect(ring.panForEncrypt("nobody")).rejects.toMatchObject({ reason: "KEY_STATE" });
    await expect(ring.pan("acme", 2)).rejects.toMatchObject({ reason: "KEY_STATE" });
  });

  it("holds PCI DSS 3.7.7: a key whose known answer or check value is not the registered one is not used, and alerts", async () => {
    await addTenant(hsm, hsm, owner, "an administrator", "substituted");
    await addTenant(hsm, hsm, owner, "an administrator", "relabelled");
    // What one who can write to the register, or to the token, would do: another good key under the tenant's name.
    const { id } = await hsm.generateKey("aes-256-gcm", "another key");
    await change("update cardex.keys set cka_id = $1 where tenant = 'substituted'", [id]);
    const { checkValue } = await hsm.describeKey({ id, kind: "aes-256-gcm" });
    const ring = await openRing();
    alerts.length = 0;
    await expect(ring.panForEncrypt("substituted")).rejects.toMatchObject({ reason: "INTEGRITY" });
    await change("update cardex.keys set check_value = $1 where tenant = 'substituted'", [checkValue]);
    await expect(ring.pan("substituted", 1)).rejects.toMatchObject({ reason: "INTEGRITY" });
    await change("update cardex.keys set cka_id = $1 where tenant = 'relabelled'", ["00".repeat(16)]);
    await expect(ring.panForEncrypt("relabelled")).rejects.toMatchObject({ reason: "INTEGRITY" });
    expect(alerts.map((each) => [each.name, each.tenant])).toEqual([
      ["key_not_verified", "substituted"],
      ["key_not_verified", "relabelled"],
    ]);
    expect((await hsm.encrypt((await ring.panForEncrypt("acme")).key, text, aad)).length).toBe(32);
  });

  it("holds PCI DSS 3.7.7 at intervals: a key that is gone at a later verification is not used any more", async () => {
    const ring = await openRing();
    await ring.panForEncrypt("acme");
    expect(await ring.verify()).toBe(0);
    const { key } = ring.request();
    await hsm.destroyKey(key);
    alerts.length = 0;
    expect(await ring.verify()).toBe(1);
    expect(alerts.map((each) => each.purpose)).toEqual(["request"]);
    expect(() => ring.request()).toThrow(expect.objectContaining({ reason: "INTEGRITY" }));
    expect(ring.fingerprint().version).toBe(1);
    await expect(openRing()).rejects.toMatchObject({ reason: "INTEGRITY" });
  });

  it("does not let the service's role write the register", async () => {
    const denied = { code: "42501" };
    for (const text of ["insert into keys select * from keys", "update keys set state = 'destroyed'", "delete from keys", "delete from tenants"]) {
      await expect(service.query({ name: `test_${text.slice(0, 12)}`, text }), text).rejects.toMatchObject(denied);
    }
  });
});
