import { type CardRef, type CardRow, lockCards, refKey } from "./cards.js";
import type { Queryable, Statement } from "./database.js";
import { joinByKey } from "./join-by-key.js";

/** A card to insert, with the fingerprint that makes it unique. */
export interface NewCard extends CardRef {
  readonly fingerprint: Buffer;
  readonly fingerprintVersion: number;
  readonly sealed: Buffer;
  readonly panKeyVersion: number;
  readonly bin: string;
  readonly lastFour: string;
  readonly panLength: number;
  readonly brand: number;
  readonly type: number;
  readonly country: string;
  readonly expiry: number;
}

export interface Fingerprint {
  readonly tenant: string;
  readonly version: number;
  readonly fingerprint: Buffer;
}

/** A card found by its fingerprint. */
export interface KnownCard extends CardRow {
  readonly key_version: number;
  readonly fingerprint: Buffer;
  readonly index_code: string;
}

const FIND_CARDS: Statement = {
  name: "fingerprints_find_cards",
  text: `select f.key_version, f.fingerprint, c.tenant, c.card_id::text, c.bin, c.last_four, c.pan_length, c.brand, c.type, c.country, c.expiry,
      c.status, c.version::text, c.created_at, c.updated_at, i.code as index_code
    from unnest($1::text[], $2::int[], $3::bytea[]) as q (tenant, key_version, fingerprint)
    ${joinByKey("card_fingerprints", "f", "f.tenant = q.tenant and f.key_version = q.key_version and f.fingerprint = q.fingerprint")}
    ${joinByKey("cards", "c", "c.tenant = f.tenant and c.card_id = f.card_id")}
    ${joinByKey("index_codes", "i", "i.tenant = c.tenant and i.card_id = c.card_id and i.expires_at is null")}`,
};
const INSERT_FINGERPRINTS: Statement = {
  name: "fingerprints_insert_fingerprints",
  text: `insert into card_fingerprints (tenant, key_version, fingerprint, card_id)
    select * from unnest($1::text[], $2::int[], $3::bytea[], $4::uuid[]) as q (tenant, key_version, fingerprint, card_id)
    order by tenant, key_version, fingerprint on conflict do nothing returning tenant, key_version, fingerprint`,
};
const INSERT_CARDS: Statement = {
  name: "fingerprints_insert_cards",
  text: `insert into cards (tenant, card_id, sealed, pan_key_version, bin, last_four, pan_length, brand, type, country, expiry)
    select * from unnest($1::text[], $2::uuid[], $3::bytea[], $4::int[], $5::text[], $6::text[], $7::smallint[], $8::smallint[], $9::smallint[], $10::text[], $11::int[])`,
};
const LATER_EXPIRY: Statement = {
  name: "fingerprints_later_expiry",
  text: `update cards c set expiry = q.expiry, version = c.version + 1, updated_at = clock_timestamp()
    from unnest($1::text[], $2::uuid[], $3::int[]) as q (tenant, card_id, expiry)
    where c.tenant = q.tenant and c.card_id = q.card_id and c.expiry < q.expiry returning c.tenant, c.card_id::text`,
};
const SET_SEALED: Statement = {
  name: "fingerprints_set_sealed",
  text: `update cards c set sealed = q.sealed, pan_key_version = q.pan_key_version
    from unnest($1::text[], $2::uuid[], $3::bytea[], $4::int[]) as q (tenant, card_id, sealed, pan_key_version)
    where c.tenant = q.tenant and c.card_id = q.card_id`,
};

export function fingerprintKey(f: { readonly tenant: string; readonly version: number; readonly fingerprint: Buffer }): string {
  return `${f.tenant} ${f.version} ${f.fingerprint.toString("base64")}`;
}

/** The cards of fingerprints, for many callers at once; unknown ones are missing. */
export async function findByFingerprint(db: Queryable, prints: readonly Fingerprint[]): Promise<Map<string, KnownCard>> {
  if (prints.length === 0) return new Map();
  const rows = await db.query<KnownCard>(FIND_CARDS, [prints.map((p) => p.tenant), prints.map((p) => p.version), prints.map((p) => p.fingerprint)]);
  return new Map(rows.map((row) => [fingerprintKey({ ...row, version: row.key_version }), row]));
}

/**
 * Takes the fingerprints of new cards, in one order everywhere, and inserts the cards whose fingerprint was free. One that another
 * transaction holds is waited for.
 * @returns the fingerprints that were free, by `fingerprintKey`
 */
export async function insertCards(tx: Queryable, cards: readonly NewCard[]): Promise<Set<string>> {
  if (cards.length === 0) return new Set();
  const rows = await tx.query<{ tenant: string; key_version: number; fingerprint: Buffer }>(INSERT_FINGERPRINTS, [
    cards.map((c) => c.tenant),
    cards.map((c) => c.fingerprintVersion),
    cards.map((c) => c.fingerprint),
    cards.map((c) => c.cardId),
  ]);
  const free = new Set(rows.map((row) => fingerprintKey({ ...row, version: row.key_version })));
  const fresh = cards.filter((c) => free.has(fingerprintKey({ ...c, version: c.fingerprintVersion })));
  if (fresh.length > 0) {
    await tx.query(INSERT_CARDS, [
      fresh.map((c) => c.tenant),
      fresh.map((c) => c.cardId),
      fresh.map((c) => c.sealed),
      fresh.map((c) => c.panKeyVersion),
      fresh.map((c) => c.bin),
      fresh.map((c) => c.lastFour),
      fresh.map((c) => c.panLength),
      fresh.map((c) => c.brand),
      fresh.map((c) => c.type),
      fresh.map((c) => c.country),
      fresh.map((c) => c.expiry),
    ]);
  }
  return free;
}

/** Moves expiries forward, never back; answers which cards changed, by `refKey`. */
export async function setLaterExpiries(tx: Queryable, changes: readonly (CardRef & { readonly expiry: number })[]): Promise<Set<string>> {
  if (changes.length === 0) return new Set();
  // In one order everywhere, so that two servers never wait for each other.
  await lockCards(tx, changes);
  const rows = await tx.query<{ tenant: string; card_id: string }>(LATER_EXPIRY, [
    changes.map((c) => c.tenant),
    changes.map((c) => c.cardId),
    changes.map((c) => c.expiry),
  ]);
  return new Set(rows.map((row) => refKey({ tenant: row.tenant, cardId: row.card_id })));
}

/** Replaces what is sealed of known cards: the last name given stands. */
export async function setSealed(
  tx: Queryable,
  changes: readonly (CardRef & { readonly sealed: Buffer; readonly panKeyVersion: number })[],
): Promise<void> {
  if (changes.length === 0) return;
  await lockCards(tx, changes);
  await tx.query(SET_SEALED, [
    changes.map((c) => c.tenant),
    changes.map((c) => c.cardId),
    changes.map((c) => c.sealed),
    changes.map((c) => c.panKeyVersion),
  ]);
}
