import type { Queryable, Statement } from "./database.js";

/** A request_id in use: known by (tenant, principal, RPC, request_id), bound to an HSM MAC of the request. */
export interface Claim {
  readonly tenant: string;
  readonly principal: string;
  readonly rpc: string;
  readonly requestId: string;
  readonly mac: Buffer;
}

/**
 * - fresh: this transaction is the first; it must end with `answerClaims` or `dropClaims`
 * - answered: done before; here is the answer
 * - reused: used before with another request
 * - same: as the claim at this position of the same list
 */
export type Claimed =
  | { readonly kind: "fresh" }
  | { readonly kind: "answered"; readonly answer: Buffer }
  | { readonly kind: "reused" }
  | { readonly kind: "same"; readonly position: number };

const CLAIM: Statement = {
  name: "requests_claim",
  text: `insert into requests (tenant, principal, rpc, request_id, mac)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bytea[]) as q (tenant, principal, rpc, request_id, mac)
    order by tenant, principal, rpc, request_id
    on conflict (tenant, principal, rpc, request_id) do update set mac = excluded.mac, answer = null, at = excluded.at
      where requests.at < clock_timestamp() - make_interval(hours => $6::int)
    returning tenant, principal, rpc, request_id::text`,
};

const READ: Statement = {
  name: "requests_read",
  text: `select r.tenant, r.principal, r.rpc, r.request_id::text, r.mac, r.answer
    from unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) as q (tenant, principal, rpc, request_id)
    join requests r on r.tenant = q.tenant and r.principal = q.principal and r.rpc = q.rpc and r.request_id = q.request_id`,
};

const ANSWER: Statement = {
  name: "requests_answer",
  text: `update requests r set answer = q.answer
    from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bytea[]) as q (tenant, principal, rpc, request_id, answer)
    where r.tenant = q.tenant and r.principal = q.principal and r.rpc = q.rpc and r.request_id = q.request_id`,
};

const DROP: Statement = {
  name: "requests_drop",
  text: `delete from requests r using unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) as q (tenant, principal, rpc, request_id)
    where r.tenant = q.tenant and r.principal = q.principal and r.rpc = q.rpc and r.request_id = q.request_id`,
};

const FORGET: Statement = {
  name: "requests_forget",
  text: `delete from requests where ctid = any (array(
    select ctid from requests where at < clock_timestamp() - make_interval(hours => $1::int) limit $2::int for update skip locked)) returning 1 as one`,
};

/** A key for maps: none of the parts holds a line feed. */
function claimKey(claim: { tenant: string; principal: string; rpc: string; requestId: string }): string {
  return [claim.tenant, claim.principal, claim.rpc, claim.requestId].join("\n");
}

const identity = (claims: readonly Claim[]): unknown[][] => [
  claims.map((c) => c.tenant),
  claims.map((c) => c.principal),
  claims.map((c) => c.rpc),
  claims.map((c) => c.requestId),
];

/**
 * Claims request_ids in the mutation's own transaction. A claim that another transaction holds is waited for: PostgreSQL's unique
 * index does the waiting, over all servers.
 * @param kept_hours how long a request_id is remembered
 */
export async function claimRequests(tx: Queryable, claims: readonly Claim[], kept_hours: number): Promise<Claimed[]> {
  if (claims.length === 0) return [];
  const first = new Map<string, number>();
  for (const [position, claim] of claims.entries()) if (!first.has(claimKey(claim))) first.set(claimKey(claim), position);
  const unique = [...first.values()].map((position) => claims[position] as Claim);
  const made = await tx.query<RequestRow>(CLAIM, [...identity(unique), unique.map((c) => c.mac), kept_hours]);
  const fresh = new Set(made.map(rowKey));
  const others = unique.filter((claim) => !fresh.has(claimKey(claim)));
  const known = new Map<string, RequestRow>();
  if (others.length > 0) {
    for (const row of await tx.query<RequestRow>(READ, identity(others))) known.set(rowKey(row), row);
  }
  return claims.map((claim, position): Claimed => {
    const key = claimKey(claim);
    const firstPosition = first.get(key) as number;
    if (firstPosition !== position) {
      return claims[firstPosition]?.mac.equals(claim.mac) === true ? { kind: "same", position: firstPosition } : { kind: "reused" };
    }
    if (fresh.has(key)) return { kind: "fresh" };
    const row = known.get(key);
    if (row?.mac === undefined || !row.mac.equals(claim.mac) || row.answer === undefined || row.answer === null) return { kind: "reused" };
    return { kind: "answered", answer: row.answer };
  });
}

interface RequestRow {
  readonly tenant: string;
  readonly principal: string;
  readonly rpc: string;
  readonly request_id: string;
  readonly mac?: Buffer;
  readonly answer?: Buffer | null;
}

function rowKey(row: RequestRow): string {
  return claimKey({ ...row, requestId: row.request_id });
}

/** Keeps the answers of fresh claims, for the repeats. */
export async function answerClaims(tx: Queryable, answers: readonly { readonly claim: Claim; readonly answer: Buffer }[]): Promise<void> {
  if (answers.length === 0) return;
  await tx.query(ANSWER, [...identity(answers.map((a) => a.claim)), answers.map((a) => a.answer)]);
}

/** Forgets fresh claims whose request failed: failures are not kept. */
export async function dropClaims(tx: Queryable, claims: readonly Claim[]): Promise<void> {
  if (claims.length > 0) await tx.query(DROP, identity(claims));
}

/** Deletes request_ids that are past their time, at most `most` of them; answers how many. */
export async function forgetRequests(db: Queryable, kept_hours: number, most: number): Promise<number> {
  return (await db.query(FORGET, [kept_hours, most])).length;
}
