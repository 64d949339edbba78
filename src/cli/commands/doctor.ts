import type { Command } from "commander";
import { dirname, join, resolve } from "node:path";
import { configFileOf } from "../administration.js";
import { readClientProfile } from "../../client/profile.js";
import { checkClientCertificates, checkServerCertificates } from "../doctor/certificates.js";
import type { Finding } from "../doctor/check.js";
import { checkConfiguration } from "../doctor/configuration.js";
import { checkDatabase } from "../doctor/database.js";
import { checkHsm } from "../doctor/hsm.js";
import { checkHandshake, checkProbe } from "../doctor/server.js";
import { exitCodes } from "../exit-codes.js";
import { printable } from "../output.js";
import type { Shell } from "../shell.js";

interface DoctorOptions {
  readonly config?: string;
  readonly state: string;
  readonly json?: true;
}

/** `cardex doctor`. */
export function addDoctor(program: Command, shell: Shell): void {
  program
    .command("doctor")
    .summary("check an installation and say what to mend")
    .description("Checks configuration, certificates, PostgreSQL, clocks, HSM, keys and server, and says what to mend. Changes nothing. Exit code 1 if something failed.")
    .option("--config <file>", "configuration of the server (or CARDEX_CONFIG); default: cardex.json in the state folder")
    .option("--state <folder>", "state folder of a development set-up", ".cardex")
    .option("--json", "JSON, one object a line")
    .addHelpText("after", "\nExample:\n  cardex doctor --config /etc/cardex/cardex.json")
    .action(async (options: DoctorOptions) => {
      let failed = 0;
      for await (const finding of examine(shell, options)) {
        if (finding.result === "fail") failed += 1;
        await shell.print(options.json === true ? JSON.stringify(finding) : findingLine(finding));
      }
      shell.exitCode = failed > 0 ? exitCodes.failed : exitCodes.ok;
    });
}

/** Check after check: what a later one needs has been looked at by an earlier one. */
async function* examine(shell: Shell, options: DoctorOptions): AsyncGenerator<Finding, void, undefined> {
  const file = configFileOf(options);
  const { config, findings } = checkConfiguration(file);
  yield* findings;
  if (config === undefined) return;
  // The clients of a state folder are those of the configuration that lies in it, and of no other.
  const profile = dirname(file) === resolve(options.state) ? await readClientProfile(join(options.state, "client.json")) : undefined;
  yield* await checkServerCertificates(config.tls);
  if (profile !== undefined) yield* await checkClientCertificates(profile, config.tls);
  const database = await checkDatabase(config.database);
  yield* database;
  // The refused PINs are kept in the database: without it none is tried.
  if (database.some(({ what }) => what === "audit tables")) yield* await checkHsm(shell, config);
  yield* await checkProbe(config.probe);
  if (profile !== undefined) yield* await checkHandshake(profile);
}

function findingLine({ result, what, found, mend }: Finding): string {
  const shown = found.split("\n").map(printable).join("\n      ");
  return `${result.padEnd(4)}  ${printable(what)}: ${shown}${mend === undefined ? "" : `\n      -> ${mend}`}`;
}
