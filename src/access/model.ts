import { newEnforcer, newModelFromString, type Enforcer } from "casbin";
import type { PolicyRow } from "../store/policy.js";
import type { Question } from "./decisions.js";

/**
 * Role-based access with domains (tenants); denied unless a rule allows it, and a deny stands above every allow. `g()` is last in
 * the matcher, because the comparisons before it are the cheaper ones.
 */
const model = `
[request_definition]
r = sub, dom, obj, act, purpose

[policy_definition]
p = sub, dom, obj, act, purpose, eft

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.obj == p.obj && (p.act == "*" || r.act == p.act) && (p.purpose == "*" || r.purpose == p.purpose) && (p.dom == "*" || r.dom == p.dom) && g(r.sub, p.sub, r.dom)
`;

/** Stands for the purpose of a call that has none. "*" in a rule matches it too. */
export const noPurpose = "(none)";

/** Stands for the scope of a token that has none. "*" in a rule matches it too. */
export const noScope = "(none)";

/** The rules, ready to be asked. Nothing is kept between questions: that is `Decisions`' work. */
export async function compileRules(rows: readonly PolicyRow[]): Promise<(question: Question) => boolean> {
  const compiled = newModelFromString(model);
  for (const { ptype, values } of rows) compiled.addPolicy(ptype, ptype, [...values]);
  const enforcer: Enforcer = await newEnforcer(compiled);
  await enforcer.buildRoleLinks();
  return ({ subject, tenant, object, action, purpose }) => enforcer.enforceSync(subject, tenant, object, action, purpose);
}
