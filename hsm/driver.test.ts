import { createHmac, createPublicKey, verify } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CountingGuard, freshToken, silentObserver, type FreshToken } from "../test/support/token.js";
import { openHsm } from "./driver.js";
import { HsmError, type Hsm, type KeyMaker, type OpenKey } from "./hsm.js";

const bytes = (most: number) => fc.uint8Array({ maxLength: most });
const integrity = { errorClass: "integrity" };
const keyLost = { errorClass: "key" };

describe("the HSM driver on SoftHSM2", () => {
  let token: FreshToken;
  let hsm: Hsm & KeyMaker;
  let aes: OpenKey;
  let hmac: OpenKey;
  let ed25519: OpenKey;

  beforeAll(async () => {
    token = await freshToken();
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    aes = await hsm.openKey(await hsm.generateKey("aes-256-gcm", "aes"));
    hmac = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "hmac"));
    ed25519 = await hsm.openKey(await hsm.generateKey("ed25519", "ed25519"));
  });

  afterAll(async () => {
    await hsm.close();
    await token.close();
  });

  it("decrypts what it encrypted, for any text and any associated data", async () => {
    await fc.assert(
      fc.asyncProperty(bytes(300), bytes(100), async (text, aad) => {
        const sealed = await hsm.encrypt(aes, text, aad);
        expect(sealed.length).toBe(text.length + 28);
        expect(Buffer.from(await hsm.decrypt(aes, sealed, aad))).toEqual(Buffer.from(text));
      }),
    );
  });

  it("never uses an IV twice", async () => {
    const sealed = await Promise.all(Array.from({ length: 2000 }, () => hsm.encrypt(aes, Buffer.from("4111"), Buffer.from("aad"))));
    expect(new Set(sealed.map((each) => Buffer.from(each).subarray(0, 12).toString("hex"))).size).toBe(2000);
  });

  it("takes a ciphertext with any one byte changed for what it is: a failure of integrity", async () => {
    const aad = Buffer.from("tenant and card");
    const sealed = await hsm.encrypt(aes, Buffer.from("a card number"), aad);
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 0x01;
      await expect(hsm.decrypt(aes, changed, aad), `byte ${at}`).rejects.toMatchObject(integrity);
    }
    expect((await hsm.health()).state).toBe("ready");
  });

  it("refuses a ciphertext under other associated data, under another key, or cut short", async () => {
    const aad = Buffer.from("tenant and card");
    const sealed = await hsm.encrypt(aes, Buffer.from("a card number"), aad);
    const other = await hsm.openKey(await hsm.generateKey("aes-256-gcm", "other"));
    await expect(hsm.decrypt(aes, sealed, Buffer.from("tenant and carf"))).rejects.toMatchObject(integrity);
    await expect(hsm.decrypt(aes, sealed, Buffer.alloc(0))).rejects.toMatchObject(integrity);
    await expect(hsm.decrypt(other, sealed, aad)).rejects.toMatchObject(integrity);
    for (const length of [0, 11, 12, 27, 28, sealed.length - 1]) {
      await expect(hsm.decrypt(aes, sealed.subarray(0, length), aad), `${length} bytes`).rejects.toMatchObject(integrity);
    }
  });

  it("answers every operation of a parallel load with its own answer, failures among them", async () => {
    const aad = Buffer.from("aad");
    const work = Array.from({ length: 3000 }, async (_, i) => {
      const text = Buffer.from(`text ${i}`);
      const sealed = await hsm.encrypt(aes, text, aad);
      if (i % 100 === 0) {
        await expect(hsm.decrypt(aes, sealed, text)).rejects.toMatchObject(integrity);
        return;
      }
      const [plain, one, two] = await Promise.all([hsm.decrypt(aes, sealed, aad), hsm.mac(hmac, text), hsm.mac(hmac, text)]);
      expect(Buffer.from(plain).toString()).toBe(`text ${i}`);
      expect(Buffer.from(one)).toEqual(Buffer.from(two));
    });
    await Promise.all(work);
  });

  it("makes MACs that depend on every byte of the data, and only on it", async () => {
    await fc.assert(
      fc.asyncProperty(bytes(200), bytes(200), async (a, b) => {
        const [one, again, other] = await Promise.all([hsm.mac(hmac, a), hsm.mac(hmac, a), hsm.mac(hmac, b)]);
        expect(one.length).toBe(32);
        expect(Buffer.from(again)).toEqual(Buffer.from(one));
        expect(Buffer.from(other).equals(one)).toBe(Buffer.from(a).equals(b));
      }),
    );
  });

  it("signs so that node:crypto verifies it with the public key that describeKey tells", async () => {
    const { publicKey, checkValue } = await hsm.describeKey(ed25519);
    const x = Buffer.from(publicKey ?? "", "hex");
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: x.toString("base64url") }, format: "jwk" });
    expect(checkValue).toBe(ed25519.checkValue);
    await fc.assert(
      fc.asyncProperty(bytes(500), async (data) => {
        const signature = await hsm.sign(ed25519, data);
        expect(verify(null, data, key, signature)).toBe(true);
        expect(verify(null, Buffer.concat([data, Buffer.from("x")]), key, signature)).toBe(false);
      }),
      { numRuns: 30 },
    );
  });

  it("takes 64 KiB of everything and refuses one byte more", async () => {
    const most = Buffer.alloc(65_536, 7);
    const more = Buffer.alloc(65_537, 7);
    const sealed = await hsm.encrypt(aes, most, most);
    expect(Buffer.from(await hsm.decrypt(aes, sealed, most)).equals(most)).toBe(true);
    expect((await hsm.mac(hmac, most)).length).toBe(32);
    expect((await hsm.random(65_536)).length).toBe(65_536);
    const refusals = [hsm.encrypt(aes, more, most), hsm.encrypt(aes, most, more), hsm.mac(hmac, more), hsm.random(65_537), hsm.random(0), hsm.random(1.5)];
    for (const refused of refusals) await expect(refused).rejects.toMatchObject({ errorClass: "operation" });
  });

  it("refuses to use a key for what it is not for", async () => {
    const data = Buffer.from("data");
    await expect(hsm.mac(aes, data)).rejects.toMatchObject({ errorClass: "operation" });
    await expect(hsm.encrypt(hmac, data, data)).rejects.toMatchObject({ errorClass: "operation" });
    await expect(hsm.sign(hmac, data)).rejects.toMatchObject({ errorClass: "operation" });
    await expect(hsm.openKey({ id: aes.id, kind: "hmac-sha-256" })).rejects.toMatchObject(keyLost);
    await expect(hsm.openKey({ id: "00".repeat(16), kind: "aes-256-gcm" })).rejects.toMatchObject(keyLost);
  });

  it("gives the same OpenKey for a key that is open", async () => {
    expect(await hsm.openKey({ id: aes.id, kind: aes.kind })).toBe(aes);
  });

  it("tells a check value that depends on the key alone", async () => {
    const { checkValue } = await hsm.describeKey(hmac);
    const whole = Buffer.from(await hsm.mac(hmac, Buffer.from("cardex check value")));
    expect(checkValue).toBe(whole.subarray(0, 8).toString("hex"));
    expect((await hsm.describeKey(aes)).checkValue).toMatch(/^[0-9a-f]{6}$/);
    expect(createHmac("sha256", "x").digest()).not.toEqual(whole);
  });

  it("destroys a key on the token and in every lane", async () => {
    const name = await hsm.generateKey("aes-256-gcm", "short-lived");
    const key = await hsm.openKey(name);
    await hsm.destroyKey(name);
    await expect(hsm.encrypt(key, Buffer.from("x"), Buffer.from("y"))).rejects.toBeInstanceOf(HsmError);
    await expect(hsm.openKey(name)).rejects.toMatchObject(keyLost);
    expect((await hsm.listKeys()).map((each) => each.id)).not.toContain(name.id);
  });

  it.each(["aes-256-gcm", "hmac-sha-256", "ed25519"] as const)(
    "holds PCI DSS 3.5.1.1 and 3.7.1 for %s: made in the HSM, sensitive, never extractable, 256 bits, no usage beyond its own",
    async (kind) => {
      const usages = { "aes-256-gcm": ["encrypt", "decrypt"], "hmac-sha-256": ["sign"], ed25519: ["sign"] };
      const { id, usages: found, ...rest } = await hsm.generateKey(kind, "asserted");
      expect(id).toMatch(/^[0-9a-f]{32}$/);
      expect([...found].toSorted()).toEqual(usages[kind].toSorted());
      expect(rest).toMatchObject({
        kind,
        label: "asserted",
        length_bits: 256,
        local: true,
        sensitive: true,
        alwaysSensitive: true,
        extractable: false,
        neverExtractable: true,
      });
    },
  );

  it("does not open a second HSM in this process, whose end would end this one", async () => {
    await expect(openHsm(token.options, new CountingGuard(), silentObserver)).rejects.toThrow("close it first");
  });
});
