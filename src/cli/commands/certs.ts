import type { Command } from "commander";
import { join } from "node:path";
import { ensureCertificates } from "../../dev/certificate-files.js";
import { roleNames } from "../../client/profile.js";
import type { Shell } from "../shell.js";

interface CertsOptions {
  readonly folder?: string;
  readonly state: string;
  readonly tenant: string;
  readonly trustDomain: string;
  readonly name: readonly string[];
  readonly json?: true;
}

/** `cardex certs`: certificates for development. In production they come from the operator's own CA. */
export function addCerts(program: Command, shell: Shell): void {
  program
    .command("certs")
    .summary("make development certificates")
    .description(
      "Makes a development CA, a server certificate and client certificates in a folder, and renews what is missing, broken or about to expire. What is there and good stays. For development only: the CA's key lies beside them.",
    )
    .option("--folder <folder>", "where to; default: certs in the state folder")
    .option("--state <folder>", "state folder of a development set-up", ".cardex")
    .option("--tenant <tenant>", "tenant of the clients", "demo")
    .option("--trust-domain <domain>", "SPIFFE trust domain", "cardex.dev")
    .option("--name <name>", `a client (repeatable); default: ${roleNames.join(", ")}`, (name: string, before: readonly string[]) => [...before, name], [])
    .option("--json", "JSON, one object a line")
    .addHelpText("after", "\nExamples:\n  cardex certs\n  cardex certs --folder certs --tenant acme --name gateway-1")
    .action(async (options: CertsOptions) => {
      const folder = options.folder ?? join(options.state, "certs");
      const names = options.name.length > 0 ? options.name : roleNames;
      const clients = names.map((name) => ({ file: name, tenant: options.tenant, name }));
      const renewed = await ensureCertificates(folder, { trustDomain: options.trustDomain, clients });
      if (options.json === true) await shell.print(JSON.stringify({ folder, renewed }));
      else await shell.print(renewed.length === 0 ? `all certificates in ${folder} are good` : `made in ${folder}: ${renewed.join(", ")}`);
    });
}
