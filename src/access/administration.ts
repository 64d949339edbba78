import { readFile } from "node:fs/promises";
import type { Database } from "../store/database.js";
import { addPolicyRow, removePolicyRow, replacePolicy, selectPolicy, type StoredPolicy } from "../store/policy.js";
import { grantFault, parsePolicy, PolicyError, rolesOf } from "./rules.js";

/** The policy that Cardex comes with: the roles of its users, and no principal. */
export async function defaultPolicy(): Promise<string> {
  return await readFile(new URL("./default-policy.csv", import.meta.url), "utf8");
}

/**
 * Replaces the policy by this text, whole or not at all. Rules are always replaced; grants (lines that start with g) only if the
 * text has any, so that a new set of rules does not take everybody's role away.
 * @param database as the owner of the schema
 * @throws PolicyError naming each wrong line; Failure STORE_UNAVAILABLE
 */
export async function applyPolicy(database: Database, csvText: string): Promise<void> {
  const rows = parsePolicy(csvText);
  if (rows.some((row) => row.ptype === "g")) return await replacePolicy(database, ["p", "g"], rows);
  const roles = rolesOf(rows);
  const lost = (await selectPolicy(database)).rows.find((row) => row.ptype === "g" && !roles.has(row.values[1] ?? ""));
  if (lost !== undefined) throw new PolicyError(`the policy has no rule for the role "${lost.values[1]}", which ${lost.values[0]} has; revoke it first`);
  await replacePolicy(database, ["p"], rows);
}

/**
 * Gives a principal a role in its tenant. Answers false if it had it.
 * @param database as the owner of the schema
 * @throws PolicyError; Failure STORE_UNAVAILABLE
 */
export async function grantRole(database: Database, principal: string, tenant: string, role: string): Promise<boolean> {
  const values = [principal, role, tenant];
  const fault = grantFault(values);
  if (fault !== undefined) throw new PolicyError(fault);
  const roles = rolesOf((await selectPolicy(database)).rows);
  if (!roles.has(role)) throw new PolicyError(`there is no role "${role}"; there are ${[...roles].toSorted().join(", ") || "none: apply a policy first"}`);
  return await addPolicyRow(database, { ptype: "g", values });
}

/**
 * Takes a role away. Answers false if the principal did not have it.
 * @param database as the owner of the schema
 * @throws PolicyError; Failure STORE_UNAVAILABLE
 */
export async function revokeRole(database: Database, principal: string, tenant: string, role: string): Promise<boolean> {
  const values = [principal, role, tenant];
  const fault = grantFault(values);
  if (fault !== undefined) throw new PolicyError(fault);
  return await removePolicyRow(database, { ptype: "g", values });
}

/** The policy as it stands, with its version. @throws Failure STORE_UNAVAILABLE */
export async function readPolicy(database: Database): Promise<StoredPolicy> {
  return await selectPolicy(database);
}
