import type { Database, Queryable } from "./database.js";

/** A row of policy_rules: the rule type and its values, as many as it has. */
export interface PolicyRow {
  readonly ptype: "p" | "g";
  readonly values: readonly string[];
}

/** The rules and the version that they are of. */
export interface StoredPolicy {
  readonly version: number;
  readonly rows: readonly PolicyRow[];
}

/** Channel of NOTIFY on each change of the policy. */
export const policyChannel = "cardex_policy";

const selectVersion = { name: "policy_version", text: "SELECT version FROM policy_version" };

// One statement, so that rules and version are of one snapshot.
const selectAll = {
  name: "policy_all",
  text: `SELECT v.version, r.ptype, ARRAY[r.v0, r.v1, r.v2, r.v3, r.v4, r.v5, r.v6] AS values
         FROM policy_version v LEFT JOIN policy_rules r ON true
         ORDER BY r.ptype DESC, r.v0, r.v1, r.v2, r.v3, r.v4, r.v5, r.v6`,
};

const deleteAll = { name: "policy_delete_all", text: "DELETE FROM policy_rules WHERE ptype = ANY($1::text[])" };

const insertRows = {
  name: "policy_insert",
  text: `INSERT INTO policy_rules (ptype, v0, v1, v2, v3, v4, v5, v6)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
         ON CONFLICT DO NOTHING RETURNING 1`,
};

const deleteRow = {
  name: "policy_delete",
  text: `DELETE FROM policy_rules
         WHERE ptype = $1 AND v0 = $2 AND v1 = $3 AND v2 = $4 AND v3 = $5 AND v4 = $6 AND v5 = $7 AND v6 = $8 RETURNING 1`,
};

/** Taken by everyone who changes rules, so that changes follow each other and none sees half of another. */
const lockVersion = { name: "policy_lock", text: "SELECT version FROM policy_version FOR UPDATE" };

/** @throws Failure STORE_UNAVAILABLE */
export async function selectPolicyVersion(database: Queryable): Promise<number> {
  const [row] = await database.query<{ version: string }>(selectVersion);
  if (row === undefined) throw new Error("policy_version is empty");
  return Number(row.version);
}

/** @throws Failure STORE_UNAVAILABLE */
export async function selectPolicy(database: Queryable): Promise<StoredPolicy> {
  const found = await database.query<{ version: string; ptype: "p" | "g" | null; values: string[] }>(selectAll);
  const [first] = found;
  if (first === undefined) throw new Error("policy_version is empty");
  const rows = found.flatMap((row) => (row.ptype === null ? [] : [{ ptype: row.ptype, values: trimmed(row.values) }]));
  return { version: Number(first.version), rows };
}

/** Replaces all rules of these types, in one transaction. */
export async function replacePolicy(database: Database, ptypes: readonly ("p" | "g")[], rows: readonly PolicyRow[]): Promise<void> {
  await database.transaction(async (tx) => {
    await tx.query(lockVersion);
    await tx.query(deleteAll, [ptypes]);
    await insert(tx, rows);
  });
}

/** Adds a rule. Answers whether it was new. */
export async function addPolicyRow(database: Database, row: PolicyRow): Promise<boolean> {
  return await database.transaction(async (tx) => {
    await tx.query(lockVersion);
    return (await insert(tx, [row])) > 0;
  });
}

/** Removes a rule. Answers whether it was there. */
export async function removePolicyRow(database: Database, row: PolicyRow): Promise<boolean> {
  return await database.transaction(async (tx) => {
    await tx.query(lockVersion);
    return (await tx.query(deleteRow, [row.ptype, ...padded(row.values)])).length > 0;
  });
}

async function insert(tx: Queryable, rows: readonly PolicyRow[]): Promise<number> {
  if (rows.length === 0) return 0;
  const columns = [rows.map((row) => row.ptype as string)];
  for (let i = 0; i < 7; i += 1) columns.push(rows.map((row) => row.values[i] ?? ""));
  return (await tx.query(insertRows, columns)).length;
}

function padded(values: readonly string[]): string[] {
  return Array.from({ length: 7 }, (_, i) => values[i] ?? "");
}

function trimmed(values: readonly string[]): string[] {
  let length = values.length;
  while (length > 0 && values[length - 1] === "") length -= 1;
  return values.slice(0, length);
}
