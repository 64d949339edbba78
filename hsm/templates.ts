import pkcs11 from "pkcs11js";
import type { KeyDescription, KeyKind } from "./hsm.js";
import type { Profile } from "./profiles.js";

/** CKA_DESTROYABLE (PKCS#11 v2.40, 4.4), which pkcs11js has no name for. */
const CKA_DESTROYABLE = 0x172;
/** CKA_COPYABLE (PKCS#11 v2.40, 4.4). */
const CKA_COPYABLE = 0x171;

/** The usages that a key of a kind has, and no other. */
const usagesOf: Readonly<Record<KeyKind, readonly string[]>> = {
  "aes-256-gcm": ["decrypt", "encrypt"],
  "hmac-sha-256": ["sign"],
  ed25519: ["sign"],
};

/** Length in bits of each kind of key. */
export const keyLength_bits: Readonly<Record<KeyKind, number>> = { "aes-256-gcm": 256, "hmac-sha-256": 256, ed25519: 256 };

/** Usage attributes by the names of KeyDescription. */
export const usageAttributes: Readonly<Record<string, number>> = {
  encrypt: pkcs11.CKA_ENCRYPT,
  decrypt: pkcs11.CKA_DECRYPT,
  sign: pkcs11.CKA_SIGN,
  verify: pkcs11.CKA_VERIFY,
  wrap: pkcs11.CKA_WRAP,
  unwrap: pkcs11.CKA_UNWRAP,
  derive: pkcs11.CKA_DERIVE,
};

/** Usages that a class of objects has no attribute for: a private key does not encrypt, verify or wrap. */
export function usagesAskedOf(kind: KeyKind): string[] {
  return Object.keys(usageAttributes).filter((usage) => kind !== "ed25519" || !["encrypt", "verify", "wrap"].includes(usage));
}

function usageValues(kind: KeyKind): pkcs11.Template {
  return usagesAskedOf(kind).map((usage) => ({ type: usageAttributes[usage] ?? 0, value: usagesOf[kind].includes(usage) }));
}

/** Attributes of every key that must not leave, whatever the provider's defaults are. */
function guarded(kind: KeyKind, id: Buffer, label: string, profile: Profile): pkcs11.Template {
  return [
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_PRIVATE, value: true },
    { type: pkcs11.CKA_SENSITIVE, value: true },
    { type: pkcs11.CKA_EXTRACTABLE, value: false },
    // A session-object copy can be made of a modifiable key only (PKCS#11 v2.40, 5.7 C_CopyObject).
    { type: pkcs11.CKA_MODIFIABLE, value: profile.sessionCopies.includes(kind) },
    { type: CKA_COPYABLE, value: profile.sessionCopies.includes(kind) },
    { type: CKA_DESTROYABLE, value: true },
    { type: pkcs11.CKA_ID, value: id },
    { type: pkcs11.CKA_LABEL, value: label },
    ...usageValues(kind),
  ];
}

/** Template of a secret key, every attribute stated. */
export function secretKeyTemplate(kind: "aes-256-gcm" | "hmac-sha-256", id: Buffer, label: string, profile: Profile): pkcs11.Template {
  return [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_SECRET_KEY },
    { type: pkcs11.CKA_KEY_TYPE, value: kind === "aes-256-gcm" ? pkcs11.CKK_AES : pkcs11.CKK_GENERIC_SECRET },
    { type: pkcs11.CKA_VALUE_LEN, value: keyLength_bits[kind] / 8 },
    ...guarded(kind, id, label, profile),
  ];
}

/** Templates of an Ed25519 key pair, every attribute stated. */
export function keyPairTemplates(id: Buffer, label: string, profile: Profile): { publicKey: pkcs11.Template; privateKey: pkcs11.Template } {
  return {
    publicKey: [
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PUBLIC_KEY },
      { type: pkcs11.CKA_KEY_TYPE, value: profile.ed25519.keyType },
      { type: pkcs11.CKA_EC_PARAMS, value: Buffer.from(profile.ed25519.ecParams, "hex") },
      { type: pkcs11.CKA_TOKEN, value: true },
      { type: pkcs11.CKA_PRIVATE, value: false },
      { type: pkcs11.CKA_MODIFIABLE, value: false },
      { type: pkcs11.CKA_ENCRYPT, value: false },
      { type: pkcs11.CKA_VERIFY, value: true },
      { type: pkcs11.CKA_WRAP, value: false },
      { type: pkcs11.CKA_DERIVE, value: false },
      { type: pkcs11.CKA_ID, value: id },
      { type: pkcs11.CKA_LABEL, value: label },
    ],
    privateKey: [
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
      { type: pkcs11.CKA_KEY_TYPE, value: profile.ed25519.keyType },
      ...guarded("ed25519", id, label, profile),
    ],
  };
}

/** The object class in which the secret part of a kind of key lives. */
export function classOf(kind: KeyKind): number {
  return kind === "ed25519" ? pkcs11.CKO_PRIVATE_KEY : pkcs11.CKO_SECRET_KEY;
}

/** What a key's attributes do not hold that they must (PCI DSS 3.5.1.1, 3.7.1); empty for a good key. Names of attributes only. */
export function attributeFaults(key: Omit<KeyDescription, "checkValue">): string[] {
  const wanted = usagesOf[key.kind];
  const faults = [
    key.sensitive ? "" : "CKA_SENSITIVE is false",
    key.alwaysSensitive ? "" : "CKA_ALWAYS_SENSITIVE is false",
    key.extractable ? "CKA_EXTRACTABLE is true" : "",
    key.neverExtractable ? "" : "CKA_NEVER_EXTRACTABLE is false",
    key.local ? "" : "CKA_LOCAL is false",
    key.length_bits === keyLength_bits[key.kind] ? "" : `length is ${key.length_bits} bits`,
    ...key.usages.filter((usage) => !wanted.includes(usage)).map((usage) => `may ${usage}`),
    ...wanted.filter((usage) => !key.usages.includes(usage)).map((usage) => `may not ${usage}`),
  ];
  return faults.filter((fault) => fault !== "");
}
