import type { Queryable, Statement } from "./database.js";
import { joinByKey } from "./join-by-key.js";

/** A card's row without what is sealed. */
export interface CardRow {
  readonly tenant: string;
  readonly card_id: string;
  readonly bin: string;
  readonly last_four: string;
  readonly pan_length: number;
  readonly brand: number;
  readonly type: number;
  readonly country: string;
  readonly expiry: number;
  readonly status: number;
  /** bigint as text */
  readonly version: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** A card found by a code or token. */
export interface FoundCard extends CardRow {
  /** Position of the key in the query. */
  readonly position: number;
  readonly current_code: string;
  /** For a card asked by an old code: when that code ends. */
  readonly code_expires_at: Date | null;
}

/** Names a card. */
export type CardKey = { readonly indexCode: string } | { readonly token: string };

export interface TenantKey {
  readonly tenant: string;
  readonly key: CardKey;
}

const columns = `c.tenant, c.card_id::text, c.bin, c.last_four, c.pan_length, c.brand, c.type, c.country, c.expiry, c.status,
  c.version::text, c.created_at, c.updated_at`;

const alive = "t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp()) and (t.uses_max = 0 or t.uses_left > 0)";

const FIND_BY_CODE: Statement = {
  name: "cards_by_code",
  text: `select q.position::int as position, ${columns}, cur.code as current_code, i.expires_at as code_expires_at
    from unnest($1::int[], $2::text[], $3::text[]) as q (position, tenant, code)
    ${joinByKey("index_codes", "i", "i.tenant = q.tenant and i.code = q.code and (i.expires_at is null or i.expires_at > clock_timestamp())")}
    ${joinByKey("cards", "c", "c.tenant = i.tenant and c.card_id = i.card_id")}
    ${joinByKey("index_codes", "cur", "cur.tenant = c.tenant and cur.card_id = c.card_id and cur.expires_at is null")}`,
};

const FIND_BY_TOKEN: Statement = {
  name: "cards_by_token",
  text: `select q.position::int as position, ${columns}, cur.code as current_code, null::timestamptz as code_expires_at
    from unnest($1::int[], $2::text[], $3::text[]) as q (position, tenant, token)
    ${joinByKey("tokens", "t", `t.tenant = q.tenant and t.token = q.token and ${alive}`)}
    ${joinByKey("cards", "c", "c.tenant = t.tenant and c.card_id = t.card_id")}
    ${joinByKey("index_codes", "cur", "cur.tenant = c.tenant and cur.card_id = c.card_id and cur.expires_at is null")}`,
};

const LOCK: Statement = {
  name: "cards_lock",
  text: `select ${columns} from cards c join unnest($1::text[], $2::uuid[]) as q (tenant, card_id)
    on c.tenant = q.tenant and c.card_id = q.card_id order by c.tenant, c.card_id for no key update of c`,
};

const SET_STATUS: Statement = {
  name: "cards_set_status",
  text: `update cards c set status = q.status, version = c.version + 1, updated_at = clock_timestamp()
    from unnest($1::text[], $2::uuid[], $3::smallint[]) as q (tenant, card_id, status)
    where c.tenant = q.tenant and c.card_id = q.card_id returning ${columns}`,
};

const TOUCH: Statement = {
  name: "cards_touch",
  text: `update cards c set version = c.version + 1, updated_at = clock_timestamp()
    from unnest($1::text[], $2::uuid[]) as q (tenant, card_id)
    where c.tenant = q.tenant and c.card_id = q.card_id returning ${columns}`,
};

const RETIRE_CODES: Statement = {
  name: "cards_retire_codes",
  text: `update index_codes i set expires_at = clock_timestamp() + make_interval(secs => q.grace_s)
    from unnest($1::text[], $2::uuid[], $3::float8[]) as q (tenant, card_id, grace_s)
    ${joinByKey("index_codes", "cur", "cur.tenant = q.tenant and cur.card_id = q.card_id and cur.expires_at is null")}
    where i.tenant = cur.tenant and i.code = cur.code
    returning i.tenant, i.card_id::text, i.code, i.expires_at`,
};

const INSERT_CODES: Statement = {
  name: "cards_insert_codes",
  text: `insert into index_codes (tenant, code, card_id)
    select * from unnest($1::text[], $2::text[], $3::uuid[]) as q (tenant, code, card_id) order by tenant, code
    on conflict do nothing returning tenant, code, card_id::text`,
};

const INSERT_EVENTS: Statement = {
  name: "cards_insert_events",
  text: `insert into card_events (tenant, event_id, card_id, kind, detail)
    select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[])`,
};

/** Finds cards by code or token, for many callers at once. What is not found, expired, revoked or used up is not in the answer. */
export async function findCards(db: Queryable, keys: readonly TenantKey[]): Promise<Map<number, FoundCard>> {
  const byCode: [number, string, string][] = [];
  const byToken: [number, string, string][] = [];
  for (const [position, { tenant, key }] of keys.entries()) {
    if ("indexCode" in key) byCode.push([position, tenant, key.indexCode]);
    else byToken.push([position, tenant, key.token]);
  }
  const found = new Map<number, FoundCard>();
  for (const [statement, rows] of [
    [FIND_BY_CODE, byCode],
    [FIND_BY_TOKEN, byToken],
  ] as const) {
    if (rows.length === 0) continue;
    const answer = await db.query<FoundCard>(statement, [rows.map((r) => r[0]), rows.map((r) => r[1]), rows.map((r) => r[2])]);
    for (const row of answer) found.set(row.position, row);
  }
  return found;
}

export interface CardRef {
  readonly tenant: string;
  readonly cardId: string;
}

/** A key for maps: tenants hold no space. */
export function refKey(ref: CardRef): string {
  return `${ref.tenant} ${ref.cardId}`;
}

/** Locks cards against other changes, in one order everywhere, and reads them as they are then. */
export async function lockCards(tx: Queryable, refs: readonly CardRef[]): Promise<Map<string, CardRow>> {
  const rows = await tx.query<CardRow>(LOCK, [refs.map((r) => r.tenant), refs.map((r) => r.cardId)]);
  return new Map(rows.map((row) => [refKey({ tenant: row.tenant, cardId: row.card_id }), row]));
}

/** Sets statuses of locked cards, and counts their versions. */
export async function setStatuses(tx: Queryable, changes: readonly (CardRef & { readonly status: number })[]): Promise<Map<string, CardRow>> {
  const rows = await tx.query<CardRow>(SET_STATUS, [changes.map((c) => c.tenant), changes.map((c) => c.cardId), changes.map((c) => c.status)]);
  return new Map(rows.map((row) => [refKey({ tenant: row.tenant, cardId: row.card_id }), row]));
}

/** Counts a change of locked cards that stands elsewhere. */
export async function touchCards(tx: Queryable, refs: readonly CardRef[]): Promise<Map<string, CardRow>> {
  const rows = await tx.query<CardRow>(TOUCH, [refs.map((r) => r.tenant), refs.map((r) => r.cardId)]);
  return new Map(rows.map((row) => [refKey({ tenant: row.tenant, cardId: row.card_id }), row]));
}

/** Ends the current codes of cards after a grace period; answers when. */
export async function retireCodes(
  tx: Queryable,
  changes: readonly (CardRef & { readonly grace_s: number })[],
): Promise<Map<string, { readonly code: string; readonly expiresAt: Date }>> {
  const rows = await tx.query<{ tenant: string; card_id: string; code: string; expires_at: Date }>(RETIRE_CODES, [
    changes.map((c) => c.tenant),
    changes.map((c) => c.cardId),
    changes.map((c) => c.grace_s),
  ]);
  return new Map(
    rows.map((row) => [refKey({ tenant: row.tenant, cardId: row.card_id }), { code: row.code, expiresAt: row.expires_at }]),
  );
}

/**
 * Gives each card the first of its candidate codes that nobody has. Cards without a current code only.
 * @returns the code of each card, by `refKey`; a card all of whose candidates are taken is missing
 */
export async function insertCodes(
  tx: Queryable,
  cards: readonly (CardRef & { readonly candidates: readonly string[] })[],
): Promise<Map<string, string>> {
  const codes = new Map<string, string>();
  let left = [...cards];
  for (let round = 0; left.length > 0; round++) {
    const tried = left.flatMap((card) => {
      const code = card.candidates[round];
      return code === undefined ? [] : [{ ...card, code }];
    });
    if (tried.length === 0) break;
    const rows = await tx.query<{ tenant: string; code: string; card_id: string }>(INSERT_CODES, [
      tried.map((t) => t.tenant),
      tried.map((t) => t.code),
      tried.map((t) => t.cardId),
    ]);
    for (const row of rows) codes.set(refKey({ tenant: row.tenant, cardId: row.card_id }), row.code);
    left = left.filter((card) => !codes.has(refKey(card)));
  }
  return codes;
}

/** One change to a card, as others will follow it. */
export interface CardEvent extends CardRef {
  readonly eventId: string;
  readonly kind: "created" | "expiry" | "status" | "index-code";
  readonly detail: object;
}

export async function insertEvents(tx: Queryable, events: readonly CardEvent[]): Promise<void> {
  if (events.length === 0) return;
  await tx.query(INSERT_EVENTS, [
    events.map((e) => e.tenant),
    events.map((e) => e.eventId),
    events.map((e) => e.cardId),
    events.map((e) => e.kind),
    events.map((e) => JSON.stringify(e.detail)),
  ]);
}
