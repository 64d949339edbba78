import type { Command } from "commander";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { stringify } from "csv-stringify/sync";
import { applyPolicy, defaultPolicy, grantRole, readPolicy, revokeRole } from "../../access/administration.js";
import { type AdministrationOptions, recordActs, withAdministration, withOwner } from "../administration.js";
import { usageFailure } from "../command-failure.js";
import type { Shell } from "../shell.js";

/** `cardex policy show`, `apply`, `grant` and `revoke`. */
export function addPolicy(program: Command, shell: Shell): void {
  const policy = program.command("policy").summary("show and change who may do what").description("Rules and roles. A change takes effect on every server within a second.");
  addShow(policy, shell);
  addApply(policy, shell);
  addRoles(policy, shell);
}

function addShow(policy: Command, shell: Shell): void {
  const command = policy
    .command("show")
    .description("Prints the policy as it stands, in the form that apply takes.")
    .option("--default", "the policy that Cardex comes with instead")
    .addHelpText("after", "\nExample:\n  cardex policy show > policy.csv");
  withAdministration(command).action(async (options: AdministrationOptions & { readonly default?: true }) => {
    if (options.default === true) return await shell.write(await defaultPolicy());
    const { version, rows } = await withOwner(options, readPolicy);
    if (options.json === true) await shell.print(JSON.stringify({ version, rows: rows.map(({ ptype, values }) => [ptype, ...values]) }));
    else await shell.write(stringify(rows.map(({ ptype, values }) => [ptype, ...values])));
  });
}

function addApply(policy: Command, shell: Shell): void {
  const command = policy
    .command("apply")
    .description("Replaces the rules by those of a file, whole or not at all. Roles that were granted stay, unless the file has lines that start with g.")
    .argument("<file>", 'Casbin\'s CSV; "default": the policy that Cardex comes with')
    .addHelpText("after", "\nExamples:\n  cardex policy apply policy.csv\n  cardex policy apply default");
  withAdministration(command).action(async (file: string, options: AdministrationOptions) => {
    const text = file === "default" ? await defaultPolicy() : await readFile(file, "utf8");
    const version = await withOwner(options, async (database) => {
      await applyPolicy(database, text);
      return (await readPolicy(database)).version;
    });
    await recordActs(options, [{ name: "policy.applied", facts: { version, sha256: createHash("sha256").update(text).digest("hex") } }]);
    await shell.print(options.json === true ? JSON.stringify({ version }) : `policy version ${version} is in force`);
  });
}

function addRoles(policy: Command, shell: Shell): void {
  const verbs = [
    { name: "grant", act: "policy.role_granted", change: grantRole, done: "has it now", nothing: "had it already", text: "Gives a principal a role in its tenant." },
    { name: "revoke", act: "policy.role_revoked", change: revokeRole, done: "has it no more", nothing: "did not have it", text: "Takes a role away from a principal." },
  ] as const;
  for (const { name, act, change, done, nothing, text } of verbs) {
    const command = policy
      .command(name)
      .description(text)
      .argument("<principal>", "SPIFFE ID: spiffe://<trust domain>/tenant/<tenant>/<name>")
      .argument("<role>", "for example auditor")
      .addHelpText("after", `\nExample:\n  cardex policy ${name} spiffe://example.org/tenant/acme/gateway-1 payment-gateway`);
    withAdministration(command).action(async (principal: string, role: string, options: AdministrationOptions) => {
      const tenant = /^spiffe:\/\/[^/]+\/tenant\/([^/]+)\//.exec(principal)?.[1];
      if (tenant === undefined) throw usageFailure("the principal must be spiffe://<trust domain>/tenant/<tenant>/<name>");
      const changed = await withOwner(options, (database) => change(database, principal, tenant, role));
      if (changed) await recordActs(options, [{ name: act, facts: { principal, role, tenant } }]);
      await shell.print(options.json === true ? JSON.stringify({ principal, role, tenant, changed }) : `${principal} ${changed ? done : nothing}: ${role}`);
    });
  }
}
