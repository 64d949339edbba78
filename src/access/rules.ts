import type { DescService } from "@bufbuild/protobuf";
import { CsvError, parse } from "csv-parse/sync";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { PurposeSchema, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import type { PolicyRow } from "../store/policy.js";
import { tenantPattern } from "./identity.js";
import { noPurpose, noScope } from "./model.js";

/** Policy text, or a change of it, that is refused as a whole: `message` names each line and what is wrong with it. */
export class PolicyError extends Error {
  override readonly name = "PolicyError";
}

const services: readonly DescService[] = [TokenService, CardService, AuditService];

/** Names of the purposes without their prefix, without the unspecified one. */
export const purposeNames: readonly string[] = PurposeSchema.values.filter((value) => value.number !== 0).map((value) => value.name.replace(/^PURPOSE_/, ""));

const rolePattern = /^[a-z][a-z0-9-]{0,63}$/;
const scopePattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const spiffePattern = /^spiffe:\/\/[a-z0-9._-]{1,255}\/tenant\/([a-z0-9][a-z0-9-]{0,31})\/[a-zA-Z0-9._/-]+$/;

/**
 * Reads policy text, Casbin's CSV: `p, <role or principal>, <tenant or *>, <object>, <action>, <purpose>, <allow|deny>` and
 * `g, <principal>, <role>, <tenant>`; '#' starts a comment line. Spaces around values don't count.
 * @throws PolicyError naming every line that is wrong
 */
export function parsePolicy(text: string): PolicyRow[] {
  const faults: string[] = [];
  const rows = readCsv(text).map(({ line, values }) => {
    const [ptype = "", ...rest] = values;
    const fault = ptype === "p" ? ruleFault(rest) : ptype === "g" ? grantFault(rest) : `starts with "${ptype}"; it must be p or g`;
    if (fault !== undefined) faults.push(`line ${line}: ${fault}`);
    return { line, row: { ptype: ptype as "p" | "g", values: rest } };
  });
  const roles = rolesOf(rows.map(({ row }) => row));
  for (const { line, row } of rows) {
    const role = row.values[1] ?? "";
    if (row.ptype === "g" && rolePattern.test(role) && !roles.has(role)) faults.push(`line ${line}: no rule of this policy is for the role "${role}"`);
  }
  if (faults.length > 0) throw new PolicyError(`the policy is not valid; nothing was changed:\n${faults.map((fault) => `  ${fault}`).join("\n")}`);
  if (!rows.some(({ row }) => row.ptype === "p")) throw new PolicyError("the policy has no rule; nothing was changed");
  return rows.map(({ row }) => row);
}

/** The roles that rules are for. */
export function rolesOf(rows: readonly PolicyRow[]): Set<string> {
  return new Set(rows.flatMap((row) => (row.ptype === "p" && row.values[0] !== undefined && rolePattern.test(row.values[0]) ? [row.values[0]] : [])));
}

/** What is wrong with principal, role, tenant; or undefined. */
export function grantFault(values: readonly string[]): string | undefined {
  const [principal = "", role = "", tenant = ""] = values;
  if (values.length !== 3) return `has ${values.length} values; a role takes three: principal, role, tenant`;
  const match = spiffePattern.exec(principal);
  if (match === null) return `"${principal}" is not a principal: spiffe://<trust domain>/tenant/<tenant>/<name>`;
  if (!rolePattern.test(role)) return `"${role}" is not a role: a-z, 0-9 and '-', a letter first`;
  if (match[1] !== tenant) return `the principal is of tenant "${match[1]}", not of "${tenant}"`;
  return undefined;
}

function ruleFault(values: readonly string[]): string | undefined {
  const [subject = "", tenant = "", object = "", action = "", purpose = "", effect = ""] = values;
  if (values.length !== 6) return `has ${values.length} values; a rule takes six: subject, tenant, object, action, purpose, allow or deny`;
  if (!rolePattern.test(subject) && !spiffePattern.test(subject)) return `"${subject}" is neither a role nor a principal`;
  if (tenant !== "*" && !tenantPattern.test(tenant)) return `"${tenant}" is not a tenant, nor *`;
  if (effect !== "allow" && effect !== "deny") return `"${effect}" is neither allow nor deny`;
  if (purpose !== "*" && purpose !== noPurpose && !purposeNames.includes(purpose)) return `"${purpose}" is not a purpose; there are ${purposeNames.join(", ")}, ${noPurpose} and *`;
  return actionFault(object, action) ?? idleFault(object, action, purpose);
}

/** A rule that no question can meet is a mistake, and a dangerous one where it should deny. */
function idleFault(object: string, action: string, purpose: string): string | undefined {
  if (purpose === "*") return undefined;
  if (object === "view") return purpose === noPurpose ? undefined : `a view is the same for every purpose; write * instead of ${purpose}`;
  if (object === "scope") return purpose === noPurpose ? `tokens are never detokenized without a purpose; name one, or write * instead of ${noPurpose}` : undefined;
  const method = services.find((each) => each.name === object)?.methods.find((each) => each.name === action);
  if (method === undefined) return undefined;
  const hasPurpose = method.input.field["purpose"] !== undefined;
  if (hasPurpose && purpose === noPurpose) return `${object}/${action} always has a purpose; name one, or write * instead of ${noPurpose}`;
  return hasPurpose || purpose === noPurpose ? undefined : `${object}/${action} has no purpose; write ${noPurpose} or * instead of ${purpose}`;
}

function actionFault(object: string, action: string): string | undefined {
  if (object === "scope") return action === "*" || action === noScope || scopePattern.test(action) ? undefined : `"${action}" is not a scope, nor ${noScope}, nor *`;
  if (object === "view") return action === "masked" || action === "nothing" ? undefined : `"${action}" is not a view; there are masked and nothing`;
  const service = services.find((each) => each.name === object);
  if (service === undefined) return `"${object}" is not a service; there are ${services.map((each) => each.name).join(", ")}, scope and view`;
  if (action === "*" || service.methods.some((method) => method.name === action)) return undefined;
  return `${object} has no "${action}"`;
}

function readCsv(text: string): { line: number; values: string[] }[] {
  try {
    const records = parse(text, { comment: "#", comment_no_infix: true, trim: true, skip_empty_lines: true, relax_column_count: true, info: true, bom: true });
    return (records as unknown as { info: { lines: number }; record: string[] }[]).map(({ info, record }) => ({ line: info.lines, values: record }));
  } catch (error) {
    if (error instanceof CsvError) throw new PolicyError(`the policy is not CSV; nothing was changed: ${error.message}`, { cause: error });
    throw error;
  }
}
