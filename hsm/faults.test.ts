import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { Pan } from "../src/cards/pan.js";
import { decodeSecret, encodeSecret } from "../src/vault/sealed-card.js";
import { faultyToken, type FaultyToken } from "../test/support/faulty-token.js";
import { CountingGuard } from "../test/support/token.js";
import { openHsm } from "./driver.js";
import type { Hsm, HsmHealth, KeyMaker, OpenKey } from "./hsm.js";
import type { HsmOptions } from "./options.js";

const text = Buffer.from("text");
const aad = Buffer.from("aad");

/** CK_RV by name: PKCS#11 v2.40, 3.6 "CK_RV". */
const ckr = {
  CKR_SLOT_ID_INVALID: 0x03,
  CKR_GENERAL_ERROR: 0x05,
  CKR_FUNCTION_FAILED: 0x06,
  CKR_DATA_LEN_RANGE: 0x21,
  CKR_DEVICE_ERROR: 0x30,
  CKR_DEVICE_REMOVED: 0x32,
  CKR_OPERATION_ACTIVE: 0x90,
  CKR_PIN_INCORRECT: 0xa0,
  CKR_PIN_LOCKED: 0xa4,
  CKR_SESSION_CLOSED: 0xb0,
  CKR_SESSION_HANDLE_INVALID: 0xb3,
  CKR_TOKEN_NOT_PRESENT: 0xe0,
  CKR_USER_NOT_LOGGED_IN: 0x101,
} as const;

describe("an HSM that fails in its calls", () => {
  let token: FaultyToken;
  let guard: CountingGuard;
  let states: HsmHealth["state"][];
  let hung: number;
  let faultedBefore: number;
  let hsm: (Hsm & KeyMaker) | undefined;
  let aes: OpenKey;
  let hmac: OpenKey;
  let ed25519: OpenKey;

  const open = async (options: Partial<HsmOptions> = {}): Promise<Hsm & KeyMaker> => {
    const observer = { hung: () => void (hung += 1), stateChanged: (state: HsmHealth["state"]) => void states.push(state) };
    hsm = await openHsm({ ...token.options, ...options }, guard, observer);
    return hsm;
  };

  const openWithKeys = async (options?: Partial<HsmOptions>): Promise<Hsm & KeyMaker> => {
    const opened = await open(options);
    aes = await opened.openKey(await opened.generateKey("aes-256-gcm", "aes"));
    hmac = await opened.openKey(await opened.generateKey("hmac-sha-256", "hmac"));
    ed25519 = await opened.openKey(await opened.generateKey("ed25519", "ed25519"));
    return opened;
  };

  /** Every operation once, with the answers they must have. */
  const worksWhole = async (opened: Hsm): Promise<void> => {
    const sealed = await opened.encrypt(aes, text, aad);
    expect(Buffer.from(await opened.decrypt(aes, sealed, aad))).toEqual(text);
    expect(Buffer.from(await opened.mac(hmac, text))).toEqual(Buffer.from(await opened.mac(hmac, text)));
    expect((await opened.sign(ed25519, text)).length).toBe(64);
    expect((await opened.random(16)).length).toBe(16);
  };

  const untilReady = (opened: Hsm) => vi.waitUntil(async () => (await opened.health()).state === "ready", { timeout: 30_000 });

  /** Functions that met a fault in this test. */
  const faulted = async () => (await token.faulted()).slice(faultedBefore);

  beforeAll(async () => {
    token = await faultyToken();
  });

  afterAll(async () => {
    await token.close();
  });

  beforeEach(async () => {
    faultedBefore = (await token.faulted()).length;
    guard = new CountingGuard();
    states = [];
    hung = 0;
  });

  afterEach(async () => {
    await token.fault();
    await hsm?.close();
    hsm = undefined;
  });

  it("replaces a session that is at fault and tries once more: the caller sees nothing", async () => {
    const opened = await openWithKeys();
    const faults = ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_SignInit", "C_Sign", "C_GenerateRandom"].flatMap((name) =>
      (["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_OPERATION_ACTIVE"] as const).map((code) => ({ name, code })),
    );
    for (const { name, code } of faults) {
      await token.fault(`${name} ckr=${ckr[code]} count=1`);
      await worksWhole(opened);
    }
    expect(await faulted()).toEqual(faults.map(({ name }) => name));
    expect(states).toEqual(["ready"]);
  });

  it("tries only once more, and then says that the session is at fault; the next operation works", async () => {
    const opened = await openWithKeys();
    await token.fault(`C_SignInit ckr=${ckr.CKR_SESSION_HANDLE_INVALID} count=2`);
    await expect(opened.mac(hmac, text)).rejects.toMatchObject({ errorClass: "session", ckr: "CKR_SESSION_HANDLE_INVALID" });
    await worksWhole(opened);
    expect(states).toEqual(["ready"]);
  });

  it("replaces the session that looks for keys, too", async () => {
    const opened = await openWithKeys();
    for (const name of ["C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_GetSessionInfo"]) {
      await token.fault(`${name} ckr=${ckr.CKR_SESSION_HANDLE_INVALID} count=1`);
      expect((await opened.describeKey(aes)).checkValue, name).toBe(aes.checkValue);
    }
    expect((await faulted()).length).toBe(4);
  });

  it("fails the one operation that the HSM refuses; those beside it and after it work", async () => {
    const opened = await openWithKeys();
    await token.fault(`C_Sign ckr=${ckr.CKR_DATA_LEN_RANGE} after=3 count=1`);
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => opened.mac(hmac, text)));
    const refused = outcomes.filter((each) => each.status === "rejected");
    expect(refused.map((each) => each.reason)).toMatchObject([{ errorClass: "operation", ckr: "CKR_DATA_LEN_RANGE" }]);
    await worksWhole(opened);
    expect(states).toEqual(["ready"]);
  });

  it("asks a known answer what an error that can mean everything means", async () => {
    const opened = await openWithKeys();
    for (const code of ["CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED"] as const) {
      await token.fault(`C_Encrypt ckr=${ckr[code]} count=1`);
      await expect(opened.encrypt(aes, text, aad)).rejects.toMatchObject({ errorClass: "operation", ckr: code });
    }
    expect(states).toEqual(["ready"]);
    await token.fault(`C_Encrypt ckr=${ckr.CKR_GENERAL_ERROR}`, `C_Decrypt ckr=${ckr.CKR_GENERAL_ERROR}`);
    await expect(opened.encrypt(aes, text, aad)).rejects.toMatchObject({ errorClass: "device" });
    await token.fault();
    await untilReady(opened);
    await worksWhole(opened);
  });

  it.each(["CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED"] as const)("does not call a ciphertext broken for one %s in its decryption: it tries once more, in a fresh session", async (code) => {
    const opened = await openWithKeys();
    const sealed = await opened.encrypt(aes, text, aad);
    for (const name of ["C_DecryptInit", "C_Decrypt"]) {
      await token.fault(`${name} ckr=${ckr[code]} count=1`);
      expect(Buffer.from(await opened.decrypt(aes, sealed, aad)), name).toEqual(text);
    }
    expect(await faulted()).toEqual(["C_DecryptInit", "C_Decrypt"]);
    expect(states).toEqual(["ready"]);
  });

  it("answers everything that waits with class device when the token is gone, and recovers by itself, with one login, when it is back", async () => {
    const opened = await openWithKeys();
    await token.fault(`* ckr=${ckr.CKR_TOKEN_NOT_PRESENT}`);
    const outcomes = await Promise.allSettled(Array.from({ length: 500 }, () => opened.mac(hmac, text)));
    expect(outcomes.map((each) => (each.status === "rejected" ? (each.reason as { errorClass: string }).errorClass : "worked"))).toEqual(
      Array.from({ length: 500 }, () => "device"),
    );
    expect((await opened.health()).state).toBe("recovering");
    // A few attempts, of which the observer hears only what is new: that the state changed, and that the cause did.
    await vi.waitUntil(async () => (await faulted()).filter((name) => name === "C_Finalize").length > 3, { timeout: 30_000 });
    await token.fault();
    await untilReady(opened);
    await worksWhole(opened);
    expect(states).toEqual(["ready", "recovering", "recovering", "ready"]);
    expect(guard.attempts).toBe(2);
  });

  it("works again after any one error of any function", async () => {
    const opened = await openWithKeys();
    const calls = ["C_EncryptInit", "C_Decrypt", "C_Sign", "C_GenerateRandom", "C_OpenSession", "C_CloseSession", "C_FindObjects", "C_GetAttributeValue", "C_CopyObject"];
    const codes = ["CKR_SLOT_ID_INVALID", "CKR_GENERAL_ERROR", "CKR_DEVICE_REMOVED", "CKR_SESSION_CLOSED", "CKR_USER_NOT_LOGGED_IN"] as const;
    for (const name of calls) {
      for (const code of codes) {
        // A session error first, so that sessions are opened, closed and filled with copies while the second fault is there.
        await token.fault(`C_SignInit ckr=${ckr.CKR_SESSION_CLOSED} count=1`, `${name} ckr=${ckr[code]} count=1`);
        await Promise.allSettled([opened.mac(hmac, text), opened.encrypt(aes, text, aad), opened.verifyKey(aes), opened.random(8)]);
        await token.fault();
        await untilReady(opened);
        await opened.verifyKey(aes);
        await worksWhole(opened);
      }
    }
    expect(hung).toBe(0);
    expect(await faulted()).toEqual(expect.arrayContaining(calls));
  });

  it("takes a ciphertext of which the HSM gave a bit wrong for what it is when it is decrypted: a failure of integrity", async () => {
    const opened = await openWithKeys();
    for (let bit = 0; bit < text.length + 16; bit += 1) {
      await token.fault(`C_Encrypt flip=${bit} count=1`);
      const sealed = await opened.encrypt(aes, text, aad);
      await expect(opened.decrypt(aes, sealed, aad)).rejects.toMatchObject({ errorClass: "integrity" });
    }
    expect(states).toEqual(["ready"]);
  });

  it("can't give a wrong PAN out: one with a bit wrong in its length or its digits is a failure of integrity", async () => {
    const opened = await openWithKeys();
    const pan = "4111111111111111";
    const sealed = await opened.encrypt(aes, encodeSecret({ pan: Pan.parse(pan), name: "A NAME" }), aad);
    for (let at = 0; at <= pan.length; at += 1) {
      await token.fault(`C_Decrypt flip=${at} count=1`);
      const plain = await opened.decrypt(aes, sealed, aad);
      expect(() => decodeSecret(plain), `byte ${at}`).toThrow(expect.objectContaining({ reason: "INTEGRITY" }));
    }
    expect(decodeSecret(await opened.decrypt(aes, sealed, aad)).pan.openDigits()).toBe(pan);
  });

  it("notices at its next check that MACs come out wrong, and does not use the key until it verifies again", async () => {
    const opened = await openWithKeys();
    await token.fault("C_Sign flip");
    for (let turn = 0; turn < 3; turn += 1) await opened.health();
    await expect(opened.mac(hmac, text)).rejects.toMatchObject({ errorClass: "key" });
    await expect(opened.verifyKey(hmac)).rejects.toMatchObject({ errorClass: "key" });
    await token.fault();
    expect(await opened.verifyKey(hmac)).toBe(hmac);
    await opened.verifyKey(ed25519);
    await worksWhole(opened);
  });

  it("does not wait for a call that hangs: class timeout, the observer is told once, and everything after is refused", async () => {
    const opened = await openWithKeys({ call_ms: 2000 });
    await token.fault("C_Encrypt hang");
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => opened.encrypt(aes, text, aad)));
    expect(outcomes.map((each) => each.status === "rejected" && (each.reason as { errorClass: string }).errorClass)).toEqual(Array.from({ length: 5 }, () => "timeout"));
    expect(hung).toBe(1);
    await expect(opened.random(16)).rejects.toMatchObject({ errorClass: "timeout" });
    expect((await opened.health()).state).toBe("failed");
  });

  it("does not hang when a call hangs while it opens: class timeout, and the observer is told", async () => {
    await token.fault("C_OpenSession after=1 hang");
    // In place of the SIGKILL that a server gives itself.
    const observer = { hung: () => void token.fault().then(() => (hung += 1)), stateChanged: (state: HsmHealth["state"]) => void states.push(state) };
    await expect(openHsm({ ...token.options, call_ms: 500 }, guard, observer)).rejects.toMatchObject({ errorClass: "timeout" });
    expect(hung).toBe(1);
    expect(states).toEqual(["failed"]);
    await worksWhole(await openWithKeys());
  });

  it("closes also while a recovery waits for the login of another process", async () => {
    const opened = await openWithKeys();
    guard.attempt = () => new Promise(() => void (guard.attempts += 1));
    await token.fault(`C_Sign ckr=${ckr.CKR_DEVICE_ERROR} count=1`);
    await expect(opened.mac(hmac, text)).rejects.toMatchObject({ errorClass: "device" });
    await vi.waitUntil(() => guard.attempts === 2, { timeout: 30_000 });
    await opened.close(100);
    await token.fault();
    guard = new CountingGuard();
    await worksWhole(await openWithKeys());
  });

  it("lets what is under way end before it closes", async () => {
    const opened = await openWithKeys();
    await token.fault("C_Sign delay_ms=200");
    const answer = opened.mac(hmac, text);
    await vi.waitUntil(async () => (await faulted()).length > 0);
    await opened.close();
    expect((await answer).length).toBe(32);
  });

  it.each(["CKR_PIN_INCORRECT", "CKR_PIN_LOCKED"] as const)("calls C_Login once when the answer is %s", async (code) => {
    await token.fault(`C_Login ckr=${ckr[code]}`);
    await expect(open()).rejects.toMatchObject({ errorClass: "login" });
    expect(await faulted()).toEqual(["C_Login"]);
    expect(guard).toMatchObject({ attempts: 1, refused: true });
  });

  it("calls C_Login once more in recovery, and never again when it is refused then", async () => {
    const opened = await openWithKeys();
    await token.fault(`C_Sign ckr=${ckr.CKR_DEVICE_ERROR} count=1`, `C_Login ckr=${ckr.CKR_PIN_INCORRECT}`);
    await expect(opened.mac(hmac, text)).rejects.toMatchObject({ errorClass: "device" });
    await vi.waitUntil(() => states.at(-1) === "login-refused", { timeout: 30_000 });
    await token.fault();
    await expect(opened.mac(hmac, text)).rejects.toMatchObject({ errorClass: "login" });
    expect((await opened.health()).state).toBe("login-refused");
    expect(await faulted()).toEqual(["C_Sign", "C_Login"]);
  });

  it("does not take a login that fails for another reason for a refusal of the PIN", async () => {
    await token.fault(`C_Login ckr=${ckr.CKR_DEVICE_ERROR}`);
    await expect(open()).rejects.toMatchObject({ errorClass: "device" });
    await token.fault();
    await worksWhole(await openWithKeys());
  });
});
