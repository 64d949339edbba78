import { ConfigError } from "../src/config.js";
import type { KeyKind } from "./hsm.js";

/** What differs between providers, as data. Sources: the providers' manuals, and experiments noted in docs/architecture.md. */
export interface Profile {
  readonly name: string;
  /** Allowed where the configuration says `production` (PCI DSS 3.6.1.2: a secure cryptographic device). */
  readonly production: boolean;
  /** Mechanisms without which Cardex can't work, by name, checked at start. */
  readonly mechanisms: Readonly<Record<string, number>>;
  /** Kinds of keys of which each lane makes a session-object copy, because that is faster. Such keys are born CKA_MODIFIABLE. */
  readonly sessionCopies: readonly KeyKind[];
  /** Codes that say for certain that a GCM tag did not verify. */
  readonly tagErrors: readonly string[];
  /** Codes that may mean one bad operation or a failed token: a known-answer operation decides. */
  readonly ambiguousErrors: readonly string[];
  readonly ed25519: {
    readonly sign: number;
    readonly generate: number;
    readonly keyType: number;
    /** DER of CKA_EC_PARAMS, hex. */
    readonly ecParams: string;
    /** Bytes of CKA_EC_POINT before the 32 bytes of the public key. */
    readonly pointPrefix_bytes: number;
  };
}

/** CKM numbers: PKCS#11 v3.0, "PKCS #11 Cryptographic Token Interface Current Mechanisms". */
const softhsm2: Profile = {
  name: "softhsm2",
  production: false,
  mechanisms: {
    CKM_AES_KEY_GEN: 0x1080,
    CKM_AES_GCM: 0x1087,
    CKM_GENERIC_SECRET_KEY_GEN: 0x350,
    CKM_SHA256_HMAC: 0x251,
    CKM_EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
    CKM_EDDSA: 0x1057,
  },
  sessionCopies: ["aes-256-gcm", "hmac-sha-256"],
  tagErrors: ["CKR_ENCRYPTED_DATA_INVALID", "CKR_AEAD_DECRYPT_FAILED"],
  ambiguousErrors: ["CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED"],
  ed25519: { sign: 0x1057, generate: 0x1055, keyType: 0x40, ecParams: "06032b6570", pointPrefix_bytes: 2 },
};

const profiles: readonly Profile[] = [softhsm2];

/** @throws ConfigError that names the profiles there are */
export function profileOf(name: string): Profile {
  const profile = profiles.find((each) => each.name === name);
  if (profile !== undefined) return profile;
  throw new ConfigError(`hsm.provider: no profile "${name}"; there is ${profiles.map((each) => each.name).join(", ")}`);
}
