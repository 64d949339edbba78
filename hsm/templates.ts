import { type ITemplate, KeyType, ObjectClass, registerAttribute } from "graphene-pk11";
import type { KeyDescription, KeyKind } from "./hsm.js";
import type { Profile } from "./profiles.js";

// PKCS#11 v2.40, 4.4: attributes that graphene has no value for, "copyable" not even where its types name it.
registerAttribute("copyable", 0x171, "boolean");
registerAttribute("destroyable", 0x172, "boolean");

/** The names of usage attributes, in KeyDescription and in PKCS#11. */
const usages = ["encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive"] as const;

type Usage = (typeof usages)[number];

/** The usages that a key of a kind has, and no other. */
const usagesOf: Readonly<Record<KeyKind, readonly Usage[]>> = {
  "aes-256-gcm": ["decrypt", "encrypt"],
  "hmac-sha-256": ["sign"],
  ed25519: ["sign"],
};

/** Length in bits of each kind of key. */
const keyLength_bits: Readonly<Record<KeyKind, number>> = { "aes-256-gcm": 256, "hmac-sha-256": 256, ed25519: 256 };

/** Usages that a class of objects has no attribute for are left out: a private key does not encrypt, verify or wrap. */
export function usagesAskedOf(kind: KeyKind): Usage[] {
  return usages.filter((usage) => kind !== "ed25519" || !["encrypt", "verify", "wrap"].includes(usage));
}

function usageValues(kind: KeyKind): ITemplate {
  return Object.fromEntries(usagesAskedOf(kind).map((usage) => [usage, usagesOf[kind].includes(usage)]));
}

/** Attributes of every key that must not leave, whatever the provider's defaults are. */
function guarded(kind: KeyKind, id: Buffer, label: string, profile: Profile): ITemplate {
  // A session-object copy can be made of a modifiable key only (PKCS#11 v2.40, 5.7 C_CopyObject).
  const copied = profile.sessionCopies.includes(kind);
  return {
    token: true,
    private: true,
    sensitive: true,
    extractable: false,
    modifiable: copied,
    copyable: copied,
    destroyable: true,
    id,
    label,
    ...usageValues(kind),
  };
}

/** Template of a secret key, every attribute stated. */
export function secretKeyTemplate(kind: "aes-256-gcm" | "hmac-sha-256", id: Buffer, label: string, profile: Profile): ITemplate {
  return {
    class: ObjectClass.SECRET_KEY,
    keyType: kind === "aes-256-gcm" ? KeyType.AES : KeyType.GENERIC_SECRET,
    valueLen: keyLength_bits[kind] / 8,
    ...guarded(kind, id, label, profile),
  };
}

/** Templates of an Ed25519 key pair, every attribute stated. */
export function keyPairTemplates(id: Buffer, label: string, profile: Profile): { publicKey: ITemplate; privateKey: ITemplate } {
  const { keyType, ecParams } = profile.ed25519;
  return {
    publicKey: {
      class: ObjectClass.PUBLIC_KEY,
      keyType,
      paramsEC: Buffer.from(ecParams, "hex"),
      token: true,
      private: false,
      modifiable: false,
      encrypt: false,
      verify: true,
      wrap: false,
      derive: false,
      id,
      label,
    },
    privateKey: { class: ObjectClass.PRIVATE_KEY, keyType, ...guarded("ed25519", id, label, profile) },
  };
}

/** The object class in which the secret part of a kind of key lives. */
export function classOf(kind: KeyKind): ObjectClass {
  return kind === "ed25519" ? ObjectClass.PRIVATE_KEY : ObjectClass.SECRET_KEY;
}

/** What a key's attributes do not hold that they must (PCI DSS 3.5.1.1, 3.7.1); empty for a good key. Names of attributes only. */
export function attributeFaults(key: Omit<KeyDescription, "checkValue">): string[] {
  const wanted: readonly string[] = usagesOf[key.kind];
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
