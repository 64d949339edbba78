import { cp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Secret } from "../src/secret.js";
import { CountingGuard, freshToken, silentObserver, type FreshToken } from "../test/support/token.js";
import { openHsm } from "./driver.js";
import type { Hsm, HsmHealth, KeyMaker } from "./hsm.js";

const text = Buffer.from("text");
const aad = Buffer.from("aad");

describe("a token that fails", () => {
  let token: FreshToken;
  let hsm: (Hsm & KeyMaker) | undefined;

  beforeEach(async () => {
    token = await freshToken();
  });

  afterEach(async () => {
    await hsm?.close();
    hsm = undefined;
    await token.close();
  });

  it("fails operations at once with class device while it is gone, and works again, with the same keys and one login, when it is back", async () => {
    const guard = new CountingGuard();
    const states: HsmHealth["state"][] = [];
    hsm = await openHsm(token.options, guard, { hung: () => undefined, stateChanged: (state) => states.push(state) });
    const opened = hsm;
    const aes = await hsm.openKey(await hsm.generateKey("aes-256-gcm", "aes"));
    const hmac = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "hmac"));
    const sealed = await hsm.encrypt(aes, text, aad);
    const mac = Buffer.from(await hsm.mac(hmac, text));

    await rename(join(token.directory, "tokens"), join(token.directory, "gone"));
    expect((await hsm.health()).state).toBe("recovering");
    await expect(hsm.decrypt(aes, sealed, aad)).rejects.toMatchObject({ errorClass: "device" });
    await expect(hsm.openKey({ id: "00".repeat(16), kind: "aes-256-gcm" })).rejects.toMatchObject({ errorClass: "device" });

    await rename(join(token.directory, "gone"), join(token.directory, "tokens"));
    await vi.waitUntil(async () => (await opened.health()).state === "ready", { timeout: 30_000 });
    expect(Buffer.from(await hsm.decrypt(aes, sealed, aad))).toEqual(text);
    expect(Buffer.from(await hsm.mac(hmac, text))).toEqual(mac);
    expect(guard.attempts).toBe(2);
    expect(states[0]).toBe("ready");
    expect(states.at(-1)).toBe("ready");
  });

  it("does not use another token under the same label", async () => {
    const other = await freshToken();
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const opened = hsm;
    const aes = await hsm.openKey(await hsm.generateKey("aes-256-gcm", "aes"));
    const causes: unknown[] = [];
    await hsm.close();
    hsm = await openHsm(token.options, new CountingGuard(), { hung: () => undefined, stateChanged: (_, cause) => causes.push(cause) });
    await hsm.openKey({ id: aes.id, kind: aes.kind });
    await rm(join(token.directory, "tokens"), { recursive: true });
    await cp(join(other.directory, "tokens"), join(token.directory, "tokens"), { recursive: true });
    expect((await hsm.health()).state).toBe("recovering");
    await vi.waitUntil(() => causes.some((cause) => cause instanceof Error && cause.message.includes("serial")), { timeout: 30_000 });
    await expect(opened.mac(aes, text)).rejects.toMatchObject({ errorClass: "device" });
    expect((await hsm.health()).state).toBe("recovering");
    await other.close();
  });

  it("does not use a key that was destroyed while the token was away, and goes on with the others", async () => {
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const opened = hsm;
    const kept = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "kept"));
    await cp(join(token.directory, "tokens"), join(token.directory, "before"), { recursive: true });
    const lost = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "lost"));
    await rm(join(token.directory, "tokens"), { recursive: true });
    await vi.waitUntil(async () => (await opened.health()).state === "recovering", { timeout: 30_000 });
    await rename(join(token.directory, "before"), join(token.directory, "tokens"));
    await vi.waitUntil(async () => (await opened.health()).state === "ready", { timeout: 30_000 });
    expect((await hsm.mac(kept, text)).length).toBe(32);
    await expect(hsm.mac(lost, text)).rejects.toMatchObject({ errorClass: "key" });
  });

  it("tries a wrong PIN once, and leaves nothing behind that keeps the next opening from working", async () => {
    const guard = new CountingGuard();
    await expect(openHsm({ ...token.options, pin: new Secret("wrong-pin") }, guard, silentObserver)).rejects.toMatchObject({ errorClass: "login" });
    expect(guard).toMatchObject({ attempts: 1, refused: true });
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    expect((await hsm.health()).state).toBe("ready");
  });

  it("says which token is missing, and which library can't be loaded", async () => {
    const wrong = async (change: object) => await openHsm({ ...token.options, ...change }, new CountingGuard(), silentObserver);
    await expect(wrong({ tokenLabel: "elsewhere" })).rejects.toThrow('no token labelled "elsewhere"');
    await expect(wrong({ library: "/nowhere/lib.so" })).rejects.toThrow("PKCS#11 library /nowhere/lib.so can't be loaded");
  });

  it("refuses everything after close, and answers what was under way", async () => {
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const hmac = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "hmac"));
    expect((await hsm.mac(hmac, text)).length).toBe(32);
    await hsm.close();
    await expect(hsm.mac(hmac, text)).rejects.toMatchObject({ errorClass: "device" });
    await expect(hsm.openKey(hmac)).rejects.toMatchObject({ errorClass: "device" });
  });
});
