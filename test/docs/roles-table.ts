import { parsePolicy, purposeNames } from "../../src/access/rules.js";

interface Role {
  readonly calls: Set<string>;
  readonly purposes: Set<string>;
  readonly scopes: Set<string>;
  view: string;
}

/** The rows of README's table of roles, from the text of a policy whose rules all allow. */
export function rolesTable(policy: string): string[][] {
  const roles = new Map<string, Role>();
  for (const { values } of parsePolicy(policy)) {
    const [name = "", , object = "", action = "", purpose = ""] = values;
    const role = roles.get(name) ?? { calls: new Set(), purposes: new Set(), scopes: new Set(), view: "nothing" };
    roles.set(name, role);
    if (object === "view") role.view = action;
    else if (object === "scope") role.scopes.add(action);
    else {
      role.calls.add(action === "*" ? `all of ${object}` : `${object}.${action}`);
      if (purpose !== "(none)") role.purposes.add(purpose);
    }
  }
  return [...roles].map(([name, role]) => [
    `\`${name}\``,
    [...role.calls].join(", ") || "none",
    allOr(role.purposes, purposeNames),
    allOr(role.scopes, ["*", "(none)"]),
    role.view,
  ]);
}

function allOr(values: Set<string>, all: readonly string[]): string {
  if (values.size === 0) return "none";
  return all.every((each) => values.has(each)) ? "all" : [...values].join(", ");
}
