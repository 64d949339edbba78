import type { Queryable, Statement } from "./database.js";

export type KeyPurpose = "pan" | "fingerprint" | "index" | "request" | "consortium" | "audit";
export type KeyState = "pending" | "active" | "decrypt-only" | "compromised" | "destroyed";

/** As `KeyKind` of hsm/, which this room does not know. */
export type RegisteredKind = "aes-256-gcm" | "hmac-sha-256" | "ed25519";

/** One row of the register of keys. */
export interface RegisteredKey {
  /** UUIDv7. */
  readonly keyId: string;
  readonly purpose: KeyPurpose;
  /** For purpose `pan` only. */
  readonly tenant: string | null;
  /** 1 to 65,535. */
  readonly version: number;
  readonly state: KeyState;
  /** CKA_ID, hex. */
  readonly ckaId: string;
  readonly kind: RegisteredKind;
  readonly label: string;
  /** Hex; see KeyDescription. */
  readonly checkValue: string;
  /** Hex, for ed25519. */
  readonly publicKey: string | null;
  readonly knownAnswer: Buffer;
  readonly createdAt: Date;
  readonly createdBy: string;
}

const columns = `key_id as "keyId", purpose, tenant, version, state, cka_id as "ckaId", kind, label, check_value as "checkValue",
  public_key as "publicKey", known_answer as "knownAnswer", created_at as "createdAt", created_by as "createdBy"`;

const LIST: Statement = { name: "keys_list", text: `select ${columns} from keys order by purpose, tenant, version` };
const ACTIVE: Statement = {
  name: "keys_active",
  text: `select ${columns} from keys where purpose = $1 and tenant is not distinct from $2 and state = 'active'`,
};
const VERSION: Statement = {
  name: "keys_version",
  text: `select ${columns} from keys where purpose = $1 and tenant is not distinct from $2 and version = $3`,
};
const INSERT: Statement = {
  name: "keys_insert",
  text: `insert into keys (key_id, purpose, tenant, version, state, cka_id, kind, label, check_value, public_key, known_answer, created_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning ${columns}`,
};
const LOCK: Statement = { name: "keys_lock", text: "select pg_advisory_xact_lock(hashtextextended('cardex keys', 0))" };

/** All keys, by purpose, tenant, version. */
export function listRegisteredKeys(on: Queryable): Promise<RegisteredKey[]> {
  return on.query<RegisteredKey>(LIST);
}

/** The key that is written with. */
export async function findActiveKey(on: Queryable, purpose: KeyPurpose, tenant: string | null): Promise<RegisteredKey | undefined> {
  return (await on.query<RegisteredKey>(ACTIVE, [purpose, tenant]))[0];
}

export async function findKeyVersion(on: Queryable, purpose: KeyPurpose, tenant: string | null, version: number): Promise<RegisteredKey | undefined> {
  return (await on.query<RegisteredKey>(VERSION, [purpose, tenant, version]))[0];
}

/** Needs the owner role. */
export async function insertKey(on: Queryable, key: Omit<RegisteredKey, "createdAt">): Promise<RegisteredKey> {
  const { keyId, purpose, tenant, version, state, ckaId, kind, label, checkValue, publicKey, knownAnswer, createdBy } = key;
  const values = [keyId, purpose, tenant, version, state, ckaId, kind, label, checkValue, publicKey, knownAnswer, createdBy];
  const [row] = await on.query<RegisteredKey>(INSERT, values);
  if (row === undefined) throw new Error("keys_insert returned no row");
  return row;
}

/** Lets one transaction at a time change the register; ends with the transaction. */
export async function lockKeyRegister(tx: Queryable): Promise<void> {
  await tx.query(LOCK);
}
