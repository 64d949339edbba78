import { v7 as uuidv7 } from "uuid";
import type { Hsm, KeyDescription, KeyKind, KeyMaker } from "../../hsm/hsm.js";
import { Failure, invalidField } from "../failure.js";
import type { Database, Queryable } from "../store/database.js";
import { findActiveKey, insertKey, listRegisteredKeys, lockKeyRegister, type KeyPurpose, type RegisteredKey } from "../store/keys.js";
import { findTenant, insertTenant, listTenants, type Tenant } from "../store/tenants.js";
import { makeKnownAnswer } from "./known-answer.js";

const installationKeys: readonly { readonly purpose: KeyPurpose; readonly kind: KeyKind }[] = [
  { purpose: "fingerprint", kind: "hmac-sha-256" },
  { purpose: "request", kind: "hmac-sha-256" },
  { purpose: "audit", kind: "ed25519" },
];

/** What an act of making keys came to. */
export interface KeysMade {
  readonly made: readonly RegisteredKey[];
  /** Were there before. */
  readonly present: readonly RegisteredKey[];
  /** On the token, but not in the register: left by a process that died between the two. Never used; destroying them is for people. */
  readonly leftovers: readonly KeyDescription[];
}

/** A tenant and its key. */
export interface TenantAdded extends KeysMade {
  readonly tenant: Tenant;
  readonly created: boolean;
}

/**
 * Makes version 1 of the installation's keys where they are missing. A key counts from the moment it is registered, and the register's lock
 * lets one process at a time make any: two of a purpose can't come about.
 * @param database as the owner
 * @param by who does it, for the register
 * @throws HsmError; Failure STORE_UNAVAILABLE
 */
export async function initializeKeys(keyMaker: KeyMaker, hsm: Hsm, database: Database, by: string): Promise<KeysMade> {
  const outcome = await database.transaction(async (tx) => {
    await lockKeyRegister(tx);
    const made: RegisteredKey[] = [];
    const present: RegisteredKey[] = [];
    for (const { purpose, kind } of installationKeys) {
      const before = await findActiveKey(tx, purpose, null);
      if (before !== undefined) present.push(before);
      else made.push(await makeKey(keyMaker, hsm, tx, { purpose, kind, tenant: null, by }));
    }
    return { made, present };
  });
  return { ...outcome, leftovers: await leftovers(keyMaker, database) };
}

/**
 * Adds a tenant and its PAN key; one that is there stays as it is.
 * @param database as the owner
 * @param institution four digits that no other tenant has; random if not given
 * @throws Failure INVALID_FIELD for a malformed tenant or institution, one that is taken, or another than the tenant has; KEY_STATE
 * if no number is left; STORE_UNAVAILABLE; HsmError
 */
export async function addTenant(keyMaker: KeyMaker, hsm: Hsm, database: Database, by: string, tenant: string, institution?: string): Promise<TenantAdded> {
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(tenant) || tenant === "system") {
    throw invalidField("tenant", "1 to 32 of a-z, 0-9 and '-', the first one a letter or digit; not \"system\"");
  }
  if (institution !== undefined && !/^[0-9]{4}$/.test(institution)) throw invalidField("institution", "four digits");
  const outcome = await database.transaction(async (tx) => {
    await lockKeyRegister(tx);
    const before = await findTenant(tx, tenant);
    if (before !== undefined && institution !== undefined && before.institution !== institution) {
      throw invalidField("institution", `the tenant has ${before.institution}, which never changes`);
    }
    const row = before ?? (await insertTenant(tx, tenant, await freeInstitution(hsm, tx, institution)));
    const key = await findActiveKey(tx, "pan", tenant);
    const made = key === undefined ? [await makeKey(keyMaker, hsm, tx, { purpose: "pan", kind: "aes-256-gcm", tenant, by })] : [];
    return { tenant: row, created: before === undefined, made, present: key === undefined ? [] : [key] };
  });
  return { ...outcome, leftovers: await leftovers(keyMaker, database) };
}

interface Birth {
  readonly purpose: KeyPurpose;
  readonly kind: KeyKind;
  readonly tenant: string | null;
  readonly by: string;
}

async function makeKey(keyMaker: KeyMaker, hsm: Hsm, tx: Queryable, { purpose, kind, tenant, by }: Birth): Promise<RegisteredKey> {
  const version = 1;
  const label = ["cardex", purpose, ...(tenant === null ? [] : [tenant]), `v${version}`].join(" ");
  const { id, checkValue, publicKey } = await keyMaker.generateKey(kind, label);
  // Opening verifies the attributes of what the token made, before anything depends on it.
  const key = await hsm.openKey({ id, kind });
  const keyId = uuidv7();
  const knownAnswer = await makeKnownAnswer(hsm, key, keyId);
  const row = { keyId, purpose, tenant, version, state: "active" as const, ckaId: id, kind, label, checkValue, knownAnswer, createdBy: by };
  return await insertKey(tx, { ...row, publicKey: publicKey ?? null });
}

async function freeInstitution(hsm: Hsm, tx: Queryable, wanted: string | undefined): Promise<string> {
  const taken = new Set((await listTenants(tx)).map((each) => each.institution));
  if (wanted !== undefined) {
    if (taken.has(wanted)) throw invalidField("institution", "another tenant has it");
    return wanted;
  }
  const free = Array.from({ length: 10_000 }, (_, i) => String(i).padStart(4, "0")).filter((each) => !taken.has(each));
  const random = Buffer.from(await hsm.random(4)).readUInt32LE(0);
  const institution = free[random % Math.max(free.length, 1)];
  if (institution === undefined) throw new Failure("KEY_STATE", "all 10,000 institution numbers are taken");
  return institution;
}

async function leftovers(keyMaker: KeyMaker, database: Database): Promise<KeyDescription[]> {
  const registered = new Set((await listRegisteredKeys(database)).map((each) => each.ckaId));
  return (await keyMaker.listKeys()).filter((each) => each.label.startsWith("cardex ") && !registered.has(each.id));
}
