import { type CardRef, refKey } from "./cards.js";
import type { Queryable, Statement } from "./database.js";
import { joinByKey } from "./join-by-key.js";

/** Identity of a token: never without its tenant. */
export interface TokenRef {
  readonly tenant: string;
  readonly token: string;
}

/** Whether a token may release its card, as PostgreSQL sees it at this moment. */
export interface TokenState extends TokenRef {
  readonly card_id: string;
  readonly scope: string;
  readonly revoked: boolean;
  /** By PostgreSQL's clock. */
  readonly expired: boolean;
  readonly uses_max: number;
  readonly uses_left: number;
  readonly status: number;
  readonly expiry: number;
}

export interface TokenSecret extends TokenState {
  readonly sealed: Buffer;
  readonly pan_key_version: number;
}

/** A new token to insert. */
export interface NewToken extends CardRef {
  /** The first that nobody has is taken. */
  readonly candidates: readonly string[];
  readonly format: number;
  readonly keepLastFour: boolean;
  readonly scope: string;
  readonly reused: boolean;
  readonly externalReference: string;
  readonly createdBy: string;
  readonly ttl_s: number | null;
  readonly uses_max: number;
}

export interface InsertedToken {
  readonly token: string;
  readonly expiresAt: Date | undefined;
}

const state = `t.tenant, t.token, t.card_id::text, t.scope, t.revoked_at is not null as revoked,
  coalesce(t.expires_at <= clock_timestamp(), false) as expired, t.uses_max, t.uses_left, c.status, c.expiry`;
const asked = `from unnest($1::text[], $2::text[]) as q (tenant, token)
  ${joinByKey("tokens", "t", "t.tenant = q.tenant and t.token = q.token")}
  ${joinByKey("cards", "c", "c.tenant = t.tenant and c.card_id = t.card_id")}`;

const SECRETS: Statement = { name: "tokens_secrets", text: `select ${state}, c.sealed, c.pan_key_version ${asked}` };
const STATES: Statement = { name: "tokens_states", text: `select ${state} ${asked}` };
const LOCK_LIMITED: Statement = {
  name: "tokens_lock_limited",
  text: `select t.tenant, t.token, t.uses_left from unnest($1::text[], $2::text[]) as q (tenant, token)
    join tokens t on t.tenant = q.tenant and t.token = q.token order by t.tenant, t.token for no key update of t`,
};
const SPEND: Statement = {
  name: "tokens_spend",
  text: `update tokens t set uses_left = t.uses_left - q.uses from unnest($1::text[], $2::text[], $3::int[]) as q (tenant, token, uses)
    where t.tenant = q.tenant and t.token = q.token`,
};
const FIND_REUSED: Statement = {
  name: "tokens_find_reused",
  text: `select t.tenant, t.card_id::text, t.scope, t.format, t.keep_last_four, t.token
    from unnest($1::text[], $2::uuid[], $3::text[], $4::smallint[], $5::bool[]) as q (tenant, card_id, scope, format, keep_last_four)
    ${joinByKey("tokens", "t", "t.tenant = q.tenant and t.card_id = q.card_id and t.scope = q.scope and t.format = q.format and t.keep_last_four = q.keep_last_four and t.reused and t.revoked_at is null")}`,
};
const INSERT: Statement = {
  name: "tokens_insert",
  text: `insert into tokens (tenant, token, card_id, format, keep_last_four, scope, reused, external_reference, created_by, expires_at, uses_max, uses_left)
    select q.tenant, q.token, q.card_id, q.format, q.keep_last_four, q.scope, q.reused, q.external_reference, q.created_by,
      clock_timestamp() + make_interval(secs => q.ttl_s), q.uses_max, q.uses_max
    from unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::bool[], $6::text[], $7::bool[], $8::text[], $9::text[], $10::float8[], $11::int[])
      as q (tenant, token, card_id, format, keep_last_four, scope, reused, external_reference, created_by, ttl_s, uses_max)
    order by q.tenant, q.card_id, q.scope, q.token
    on conflict do nothing returning tenant, token, expires_at`,
};

const described = `t.tenant, t.token, t.format, t.keep_last_four, t.scope, t.reused, t.external_reference, t.created_at, t.created_at::text as created_at_exact,
  t.expires_at, coalesce(t.expires_at <= clock_timestamp(), false) as expired, t.uses_max, t.uses_left, t.revoked_at, t.card_id::text, i.code as index_code
  from tokens t ${joinByKey("index_codes", "i", "i.tenant = t.tenant and i.card_id = t.card_id and i.expires_at is null")}`;

const DESCRIBE: Statement = { name: "tokens_describe", text: `select ${described} where t.tenant = $1 and t.token = $2` };
const LIST: Statement = {
  name: "tokens_list",
  text: `select ${described} where t.tenant = $1 and t.card_id = $2::uuid and ($3 = '' or t.scope = $3)
    and ($4::timestamptz is null or (t.created_at, t.token) < ($4::timestamptz, $5))
    order by t.created_at desc, t.token desc limit $6`,
};
const REVOKE: Statement = {
  name: "tokens_revoke",
  text: `update tokens t set revoked_at = clock_timestamp() from
      (select l.tenant, l.token from unnest($1::text[], $2::text[]) as q (tenant, token)
        join tokens l on l.tenant = q.tenant and l.token = q.token order by l.tenant, l.token for no key update of l) as q
    where t.tenant = q.tenant and t.token = q.token and t.revoked_at is null`,
};

/** A token described to its own tenant. */
export interface TokenDescription extends TokenRef {
  readonly format: number;
  readonly keep_last_four: boolean;
  readonly scope: string;
  readonly reused: boolean;
  readonly external_reference: string;
  readonly created_at: Date;
  /** With PostgreSQL's microseconds, for page tokens. */
  readonly created_at_exact: string;
  readonly expires_at: Date | null;
  readonly expired: boolean;
  readonly uses_max: number;
  readonly uses_left: number;
  readonly revoked_at: Date | null;
  readonly card_id: string;
  readonly index_code: string;
}

/** A key for maps: tenants hold no space. */
export function tokenKey(ref: TokenRef): string {
  return `${ref.tenant} ${ref.token}`;
}

const refs = (tokens: readonly TokenRef[]): [string[], string[]] => [tokens.map((t) => t.tenant), tokens.map((t) => t.token)];

/** State and sealed card of tokens, for many callers at once; unknown ones are missing. */
export async function findSecrets(db: Queryable, tokens: readonly TokenRef[]): Promise<Map<string, TokenSecret>> {
  return new Map((await db.query<TokenSecret>(SECRETS, refs(tokens))).map((row) => [tokenKey(row), row]));
}

/** State of tokens inside the committing transaction. */
export async function findStates(tx: Queryable, tokens: readonly TokenRef[]): Promise<Map<string, TokenState>> {
  return new Map((await tx.query<TokenState>(STATES, refs(tokens))).map((row) => [tokenKey(row), row]));
}

/** Locks tokens of limited use, in one order everywhere; answers the uses left. */
export async function lockLimited(tx: Queryable, tokens: readonly TokenRef[]): Promise<Map<string, number>> {
  if (tokens.length === 0) return new Map();
  const rows = await tx.query<TokenRef & { uses_left: number }>(LOCK_LIMITED, refs(tokens));
  return new Map(rows.map((row) => [tokenKey(row), row.uses_left]));
}

/** Spends uses of locked tokens. */
export async function spendUses(tx: Queryable, spent: readonly (TokenRef & { readonly uses: number })[]): Promise<void> {
  if (spent.length > 0) await tx.query(SPEND, [...refs(spent), spent.map((s) => s.uses)]);
}

function reusedKey(t: { tenant: string; cardId: string; scope: string; format: number; keepLastFour: boolean }): string {
  return JSON.stringify([refKey(t), t.scope, t.format, t.keepLastFour]);
}

/**
 * Inserts tokens. A reused one that exists already answers with what exists, also when another transaction makes it at this moment.
 * @returns in order; undefined where every candidate is taken
 */
export async function insertTokens(tx: Queryable, tokens: readonly NewToken[]): Promise<(InsertedToken | undefined)[]> {
  const inserted = new Map<NewToken, InsertedToken>();
  for (let round = 0; inserted.size < tokens.length; round++) {
    await findReused(
      tx,
      tokens.filter((t) => t.reused && !inserted.has(t)),
      inserted,
    );
    const rows = firstOfEachReused(tokens.filter((t) => !inserted.has(t))).flatMap((t) => {
      const token = t.candidates[round];
      return token === undefined ? [] : [{ ...t, token, of: t }];
    });
    if (rows.length === 0) break;
    const byKey = new Map(rows.map((row) => [tokenKey(row), row.of]));
    const made = await tx.query<TokenRef & { expires_at: Date | null }>(INSERT, [
      ...refs(rows),
      rows.map((t) => t.cardId),
      rows.map((t) => t.format),
      rows.map((t) => t.keepLastFour),
      rows.map((t) => t.scope),
      rows.map((t) => t.reused),
      rows.map((t) => t.externalReference),
      rows.map((t) => t.createdBy),
      rows.map((t) => t.ttl_s),
      rows.map((t) => t.uses_max),
    ]);
    for (const row of made) {
      const of = byKey.get(tokenKey(row));
      if (of !== undefined) inserted.set(of, { token: row.token, expiresAt: row.expires_at ?? undefined });
    }
  }
  return tokens.map((t) => inserted.get(t));
}

async function findReused(tx: Queryable, tokens: readonly NewToken[], into: Map<NewToken, InsertedToken>): Promise<void> {
  if (tokens.length === 0) return;
  const rows = await tx.query<{ tenant: string; card_id: string; scope: string; format: number; keep_last_four: boolean; token: string }>(FIND_REUSED, [
    tokens.map((t) => t.tenant),
    tokens.map((t) => t.cardId),
    tokens.map((t) => t.scope),
    tokens.map((t) => t.format),
    tokens.map((t) => t.keepLastFour),
  ]);
  const found = new Map(rows.map((row) => [reusedKey({ ...row, cardId: row.card_id, keepLastFour: row.keep_last_four }), row.token]));
  for (const t of tokens) {
    const token = found.get(reusedKey(t));
    if (token !== undefined) into.set(t, { token, expiresAt: undefined });
  }
}

/** The same reused token twice in one batch: the first is inserted, the next round finds it for the others. */
function firstOfEachReused(tokens: readonly NewToken[]): NewToken[] {
  const seen = new Set<string>();
  return tokens.filter((t) => {
    if (!t.reused) return true;
    const key = reusedKey(t);
    return seen.has(key) ? false : seen.add(key) !== undefined;
  });
}

/** A token of this tenant, in whatever state. */
export async function describeToken(db: Queryable, ref: TokenRef): Promise<TokenDescription | undefined> {
  return (await db.query<TokenDescription>(DESCRIBE, [ref.tenant, ref.token]))[0];
}

/** Tokens of a card, newest first, after a point. */
export function listTokens(
  db: Queryable,
  card: CardRef,
  scope: string,
  after: { readonly createdAt: string; readonly token: string } | undefined,
  most: number,
): Promise<TokenDescription[]> {
  return db.query<TokenDescription>(LIST, [card.tenant, card.cardId, scope, after?.createdAt ?? null, after?.token ?? null, most]);
}

/** Revokes tokens; those that are revoked already stay as they are. */
export async function revokeTokens(tx: Queryable, tokens: readonly TokenRef[]): Promise<void> {
  await tx.query(REVOKE, refs(tokens));
}
