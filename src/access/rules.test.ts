import { describe, expect, test } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { defaultPolicy } from "./administration.js";
import { compileRules, noPurpose } from "./model.js";
import { parsePolicy, PolicyError, purposeNames, rolesOf } from "./rules.js";

const person = "spiffe://cardex.test/tenant/acme/someone";

/** What each role may call; everything else it may not. Kept apart from the policy file, so that a slip there shows. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  "payment-gateway": [...TokenService.methods.map((method) => `TokenService/${method.name}`), "CardService/GetCard", "CardService/BatchGetCards"],
  "risk-system": ["CardService/GetCard", "CardService/BatchGetCards"],
  "card-operations": [
    "CardService/GetCard",
    "CardService/BatchGetCards",
    "CardService/SetCardStatus",
    "CardService/RotateIndexCode",
    "TokenService/GetToken",
    "TokenService/ListTokens",
    "TokenService/RevokeToken",
  ],
  auditor: AuditService.methods.map((method) => `AuditService/${method.name}`),
  "key-custodian": [],
  "policy-admin": [],
  analyst: [],
  operator: [],
};

describe("the default policy", () => {
  test("has the roles of the product, and no others", async () => {
    expect([...rolesOf(parsePolicy(await defaultPolicy()))].toSorted()).toEqual(Object.keys(allowed).toSorted());
  });

  test.each(Object.keys(allowed))("lets the role %s call what it is for, and nothing else", async (role) => {
    const decide = await compileRules([...parsePolicy(await defaultPolicy()), { ptype: "g", values: [person, role, "acme"] }]);
    const may = [];
    for (const service of [TokenService, CardService, AuditService]) {
      for (const method of service.methods) {
        const purposes = "purpose" in method.input.field ? purposeNames : [noPurpose];
        const verdicts = purposes.map((purpose) => decide({ subject: person, tenant: "acme", object: service.name, action: method.name, purpose }));
        expect(new Set(verdicts).size).toBe(1);
        if (verdicts[0] === true) may.push(`${service.name}/${method.name}`);
        expect(decide({ subject: person, tenant: "other", object: service.name, action: method.name, purpose: noPurpose })).toBe(false);
      }
    }
    expect(may.toSorted()).toEqual([...(allowed[role] ?? [])].toSorted());
  });

  test.each(Object.keys(allowed))("lets nobody but the payment gateway detokenize by scope: %s", async (role) => {
    const decide = await compileRules([...parsePolicy(await defaultPolicy()), { ptype: "g", values: [person, role, "acme"] }]);
    for (const action of ["merchant-7", "(none)"])
      expect(decide({ subject: person, tenant: "acme", object: "scope", action, purpose: "PAYMENT" })).toBe(role === "payment-gateway");
  });
});

test("a rule that denies stands above every rule that allows", async () => {
  const decide = await compileRules(
    parsePolicy(`
      p, payment-gateway, *, TokenService, *, *, allow
      p, ${person}, acme, TokenService, Detokenize, MIGRATION, deny
      g, ${person}, payment-gateway, acme
    `),
  );
  const ask = (purpose: string): boolean => decide({ subject: person, tenant: "acme", object: "TokenService", action: "Detokenize", purpose });
  expect(ask("PAYMENT")).toBe(true);
  expect(ask("MIGRATION")).toBe(false);
});

describe("policy text is refused as a whole, with the line, when it", () => {
  const good = "p, auditor, *, AuditService, *, (none), allow\n";
  test.each([
    ["has another rule type", "q, a, b, c", 'line 2: starts with "q"'],
    ["lacks a value", "p, auditor, *, AuditService, *, (none)", "line 2: has 5 values"],
    ["names an unknown service", "p, auditor, *, AuditServce, *, (none), allow", 'line 2: "AuditServce" is not a service'],
    ["names an unknown RPC", "p, auditor, *, AuditService, Erase, (none), allow", 'line 2: AuditService has no "Erase"'],
    ["names an unknown purpose", "p, auditor, *, AuditService, *, FUN, allow", 'line 2: "FUN" is not a purpose'],
    ["names an unknown effect", "p, auditor, *, AuditService, *, (none), Allow", 'line 2: "Allow" is neither'],
    ["names a malformed tenant", "p, auditor, ACME, AuditService, *, (none), allow", 'line 2: "ACME" is not a tenant'],
    ["names a malformed scope", "p, auditor, *, scope, A B, *, allow", 'line 2: "A B" is not a scope'],
    ["names an unknown view", "p, auditor, *, view, full, *, allow", 'line 2: "full" is not a view'],
    ["has a purpose where a view has none, so that it would never apply", "p, auditor, *, view, masked, PAYMENT, deny", "line 2: a view is the same for every purpose"],
    ["lacks a purpose where a scope has one, so that it would never apply", "p, auditor, *, scope, m1, (none), deny", "line 2: tokens are never detokenized without a purpose"],
    ["lacks a purpose where an RPC has one", "p, auditor, *, TokenService, Detokenize, (none), deny", "line 2: TokenService/Detokenize always has a purpose"],
    ["has a purpose where an RPC has none", "p, auditor, *, TokenService, Tokenize, REFUND, deny", "line 2: TokenService/Tokenize has no purpose"],
    ["gives a role that no rule is for", `g, ${person}, auditr, acme`, 'line 2: no rule of this policy is for the role "auditr"'],
    ["gives a role in another tenant", `g, ${person}, auditor, other`, 'line 2: the principal is of tenant "acme"'],
    ["gives a role to no principal", "g, someone, auditor, acme", 'line 2: "someone" is not a principal'],
    ["is not CSV", 'p, "auditor', "not CSV"],
  ])("%s", (_name, line, message) => {
    expect(() => parsePolicy(good + line)).toThrow(PolicyError);
    expect(() => parsePolicy(good + line)).toThrow(message);
  });

  test("has no rule at all", () => {
    expect(() => parsePolicy("# nothing\n")).toThrow("has no rule");
  });
});
