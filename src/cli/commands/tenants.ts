import type { Command } from "commander";
import { addTenant } from "../../keys/initialize.js";
import { listTenants } from "../../store/tenants.js";
import { type AdministrationOptions, actor, configOf, recordActs, withAdministration, withHsm, withOwner } from "../administration.js";
import { table } from "../output.js";
import type { Shell } from "../shell.js";
import { reportKeys } from "./keys.js";

/** `cardex tenants add` and `list`. */
export function addTenants(program: Command, shell: Shell): void {
  const tenants = program.command("tenants").summary("add and list tenants").description("The institutions of this installation.");
  const add = tenants
    .command("add")
    .description("Adds a tenant and makes its PAN key in the HSM. Safe to repeat. Roles for its principals: cardex policy grant.")
    .argument("<tenant>", "1 to 32 of a-z, 0-9 and '-', the first one a letter or digit")
    .option("--institution <digits>", "the first four digits of its index codes; default: random")
    .addHelpText("after", "\nExample:\n  cardex tenants add acme --institution 4000");
  withAdministration(add).action(async (tenant: string, options: AdministrationOptions & { readonly institution?: string }) => {
    const config = configOf(options);
    const outcome = await withOwner(options, (database) =>
      withHsm(shell, config, database, (hsm) => addTenant(hsm, hsm, database, actor(), tenant, options.institution)),
    );
    const { institution } = outcome.tenant;
    if (outcome.created) await recordActs(options, [{ name: "tenant.added", facts: { tenant, institution } }]);
    if (options.json !== true) await shell.print(`tenant ${tenant} ${outcome.created ? "added" : "is there already"}, institution ${institution}`);
    await reportKeys(shell, options, outcome);
  });
  const list = tenants.command("list").description("Lists the tenants.").addHelpText("after", "\nExample:\n  cardex tenants list");
  withAdministration(list).action(async (options: AdministrationOptions) => {
    const rows = await withOwner(options, (database) => listTenants(database));
    if (options.json === true) for (const row of rows) await shell.print(JSON.stringify(row));
    else await shell.print(table(["TENANT", "INSTITUTION", "ADDED"], rows.map((row) => [row.tenant, row.institution, row.createdAt.toISOString()])));
  });
}
