import { createPublicKey, verify } from "node:crypto";
import type { Session } from "graphene-pk11";
import pkcs11 from "pkcs11js";
import { ckrOf, classify } from "./errors.js";
import { HsmError, type KeyKind } from "./hsm.js";
import { iv_bytes, tag_bytes } from "./limits.js";
import type { Profile } from "./profiles.js";
import type { Probe } from "./protocol.js";

/** The text of known-answer operations, and of the check value of HMAC keys (see KeyDescription). */
export const PROBE_TEXT = Buffer.from("cardex check value");
const probeAad = Buffer.from("cardex known answer");

/**
 * Where an operation happens: a session, and what is known of the provider. Worker threads only.
 *
 * Operations are raw synchronous calls of pkcs11js, on the library that the session came from: graphene's callback API hands the native
 * thread memory that the garbage collector may free, and its AesGcmParams sends memory that was never written.
 */
export interface Place {
  readonly session: Session;
  readonly profile: Profile;
}

function gcm(iv: Buffer, aad: Buffer): pkcs11.Mechanism {
  const parameter: pkcs11.GcmParams = { type: pkcs11.CK_PARAMS_AES_GCM_v240, iv, ivBits: iv_bytes * 8, aad, tagBits: tag_bytes * 8 };
  return { mechanism: pkcs11.CKM_AES_GCM, parameter };
}

/** Random bytes of the HSM. */
export function random({ session }: Place, length: number): Buffer {
  const bytes = session.lib.C_GenerateRandom(session.handle, Buffer.alloc(length));
  if (bytes.length !== length) throw new HsmError("device", `C_GenerateRandom: ${bytes.length} bytes for ${length}`);
  return bytes;
}

/** IV, ciphertext, tag. The IV is read back: some providers write one of their own into the parameter. */
export function encrypt(place: Place, key: Buffer, plaintext: Buffer, aad: Buffer): Buffer {
  const { lib, handle } = place.session;
  const iv = random(place, iv_bytes);
  lib.C_EncryptInit(handle, gcm(iv, aad), key);
  const sealed = lib.C_Encrypt(handle, plaintext, Buffer.alloc(plaintext.length + tag_bytes));
  if (sealed.length !== plaintext.length + tag_bytes) throw new HsmError("device", `C_Encrypt: ${sealed.length} bytes for ${plaintext.length}`);
  return Buffer.concat([iv, sealed]);
}

/** The reverse. The buffer handed over is as long as ciphertext and tag, which SoftHSM insists on. */
export function decrypt({ session: { lib, handle } }: Place, key: Buffer, sealed: Buffer, aad: Buffer): Buffer {
  if (sealed.length < iv_bytes + tag_bytes) throw new HsmError("integrity", "decrypt: shorter than IV and tag");
  lib.C_DecryptInit(handle, gcm(sealed.subarray(0, iv_bytes), aad), key);
  const ciphertext = sealed.subarray(iv_bytes);
  const plaintext = lib.C_Decrypt(handle, ciphertext, Buffer.alloc(ciphertext.length));
  if (plaintext.length !== ciphertext.length - tag_bytes) throw new HsmError("device", `C_Decrypt: ${plaintext.length} bytes`);
  return plaintext;
}

/** HMAC-SHA-256. */
export function mac({ session: { lib, handle } }: Place, key: Buffer, data: Buffer): Buffer {
  lib.C_SignInit(handle, { mechanism: pkcs11.CKM_SHA256_HMAC }, key);
  const result = lib.C_Sign(handle, data, Buffer.alloc(32));
  if (result.length !== 32) throw new HsmError("device", `C_Sign: ${result.length} bytes for an HMAC`);
  return result;
}

/** Ed25519 over the data itself (RFC 8032, not the prehashed form). */
export function sign({ session: { lib, handle }, profile }: Place, key: Buffer, data: Buffer): Buffer {
  lib.C_SignInit(handle, { mechanism: profile.ed25519.sign }, key);
  const result = lib.C_Sign(handle, data, Buffer.alloc(64));
  if (result.length !== 64) throw new HsmError("device", `C_Sign: ${result.length} bytes for a signature`);
  return result;
}

/** Makes the known answer of a key. For Ed25519 it is the public key. */
export function makeProbe(place: Place, kind: KeyKind, key: Buffer, publicKey: string | undefined): Probe {
  if (kind === "ed25519") return { kind, answer: publicKey ?? "" };
  const answer = kind === "aes-256-gcm" ? encrypt(place, key, PROBE_TEXT, probeAad) : mac(place, key, PROBE_TEXT);
  return { kind, answer: answer.toString("hex") };
}

/**
 * Whether the key behind `key` is the one that the probe was made with. After another answer the session is not to be used any more.
 * @throws what PKCS#11 throws
 */
export function answersProbe(place: Place, key: Buffer, probe: Probe): boolean {
  const answer = Buffer.from(probe.answer, "hex");
  if (probe.kind === "aes-256-gcm") return opens(place, key, answer);
  if (probe.kind === "hmac-sha-256") return mac(place, key, PROBE_TEXT).equals(answer);
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: answer.toString("base64url") }, format: "jwk" });
  return verify(null, PROBE_TEXT, publicKey, sign(place, key, PROBE_TEXT));
}

function opens(place: Place, key: Buffer, sealed: Buffer): boolean {
  try {
    return decrypt(place, key, sealed, probeAad).equals(PROBE_TEXT);
  } catch (error) {
    if (classify(ckrOf(error), place.profile) === "integrity") return false;
    throw error;
  }
}
