/**
 * The HSM as the rest of Cardex sees it. Everything about PKCS#11 (graphene-pk11, pkcs11js, sessions, handles, templates) stays
 * in this folder. The implementation is `driver.ts`.
 */

/** What a key is for, in PKCS#11 terms. */
export type KeyKind = "aes-256-gcm" | "hmac-sha-256" | "ed25519";

/** Names one key: the random CKA_ID it was born with. Labels are for people; they need not be unique. */
export interface KeyName {
  /** 16 random bytes, as 32 lower-case hex digits. */
  readonly id: string;
  readonly kind: KeyKind;
}

/** A key that was found on the token, verified, and copied to each lane. Only valid with the Hsm that opened it. */
export interface OpenKey extends KeyName {
  readonly label: string;
  /** See `describeKey`. */
  readonly checkValue: string;
}

/** What PCI DSS 3.6.1.1 wants to know of a key, read from the token object itself. */
export interface KeyDescription extends KeyName {
  readonly label: string;
  readonly length_bits: number;
  /**
   * Lower-case hex. AES: the token's own CKA_CHECK_VALUE (first 3 bytes of the encryption of a zero block, PKCS#11 v2.40
   * 4.10.2) where it has one. HMAC: first 8 bytes of HMAC-SHA-256 over "cardex check value". Ed25519: first 8 bytes of SHA-256
   * over the public key.
   */
  readonly checkValue: string;
  /** Raw 32-byte public key of an Ed25519 key, lower-case hex. */
  readonly publicKey?: string;
  readonly local: boolean;
  readonly sensitive: boolean;
  readonly alwaysSensitive: boolean;
  readonly extractable: boolean;
  readonly neverExtractable: boolean;
  /** Names of the usages that are true: "encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive". */
  readonly usages: readonly string[];
}

/** Every operation of every call. All lengths in bytes. All methods may throw HsmError. */
export interface Hsm {
  /**
   * Finds the token key (CKA_TOKEN true, this CKA_ID; exactly one, else an error of class "key"), verifies its attributes and
   * makes it ready in every lane. Opening an open key gives the same OpenKey.
   */
  openKey(name: KeyName): Promise<OpenKey>;
  /**
   * As `openKey`, but a key that is open already is looked up on the token again and must be the same one still: the lanes may hold copies
   * that outlive it. @throws HsmError "key": then the key is not used any more, by nobody, until it verifies again
   */
  verifyKey(name: KeyName): Promise<OpenKey>;
  /** AES-256-GCM with a fresh random 96-bit IV from the HSM. Answer: IV (12), ciphertext, tag (16). */
  encrypt(key: OpenKey, plaintext: Uint8Array, aad: Uint8Array): Promise<Uint8Array>;
  /** The reverse. @throws HsmError "integrity" if the ciphertext does not verify, "key" if the key was found lost: then no ciphertext is to blame. */
  decrypt(key: OpenKey, sealed: Uint8Array, aad: Uint8Array): Promise<Uint8Array>;
  /** HMAC-SHA-256, 32 bytes. */
  mac(key: OpenKey, data: Uint8Array): Promise<Uint8Array>;
  /** Ed25519 (RFC 8032), 64 bytes. */
  sign(key: OpenKey, data: Uint8Array): Promise<Uint8Array>;
  /** Random bytes from the HSM, 1 to 65,536. */
  random(length: number): Promise<Uint8Array>;
  /** Reads the key's attributes and check value from the token object, not from a copy. */
  describeKey(name: KeyName): Promise<KeyDescription>;
  /** Whether the lanes work: a known-answer operation on the token, not a mere call. */
  health(): Promise<HsmHealth>;
  /** Ends the lanes; waits for operations and for a recovery under way, at most `drain_ms`, and a few seconds for the HSM's library to end. */
  close(drain_ms?: number): Promise<void>;
}

export interface HsmHealth {
  readonly state: "ready" | "recovering" | "login-refused" | "failed";
  readonly provider: string;
  readonly tokenSerial: string;
  readonly lanes: number;
}

/** Making and destroying keys: for `keys/` and the command line alone, never for the way of a request. */
export interface KeyMaker {
  /** Generates on the token, every attribute stated, CKA_LOCAL, never extractable. `label` is for people. */
  generateKey(kind: KeyKind, label: string): Promise<KeyDescription>;
  destroyKey(name: KeyName): Promise<void>;
  /** All keys on the token of a kind that Cardex makes, registered or not. */
  listKeys(): Promise<KeyDescription[]>;
}

/**
 * - operation: this request fails, the next may not
 * - session: the session was replaced, one retry failed too
 * - device: token or library away; recovery is under way
 * - login: the PIN was refused, or was refused before and nobody cleared it
 * - integrity: a ciphertext does not verify, under a key that does
 * - key: a key is missing, another one than before, or lacks an attribute; it says nothing about what was encrypted with it
 * - timeout: no answer in time; the process may have to be restarted
 */
export type HsmErrorClass = "operation" | "session" | "device" | "login" | "integrity" | "key" | "timeout";

/** Any failure of the HSM. `message` names the PKCS#11 function and CKR code, never data. */
export class HsmError extends Error {
  override readonly name = "HsmError";
  readonly errorClass: HsmErrorClass;
  /** CKR name, where there is one. */
  readonly ckr: string | undefined;

  constructor(errorClass: HsmErrorClass, message: string, detail: { ckr?: string | undefined; cause?: unknown } = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.errorClass = errorClass;
    this.ckr = detail.ckr;
  }
}

/**
 * Stands between the driver and C_Login, so that a refused PIN is tried once by one process and never again until an operator
 * clears it. Implemented over PostgreSQL (`keys/login-guard.ts`), because all processes and machines of an installation share it.
 */
export interface LoginGuard {
  /**
   * Runs `login` under a lock that all processes of the installation share, unless a refusal is recorded for this token.
   * `login` answers whether the PIN was accepted; false is recorded.
   * @throws HsmError class "login" if a refusal is recorded, or was just now.
   */
  attempt(tokenSerial: string, login: () => Promise<boolean>): Promise<void>;
}
