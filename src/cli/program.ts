import { Command } from "commander";
import { addAudit } from "./commands/audit.js";
import { addCards } from "./commands/cards.js";
import { addCerts } from "./commands/certs.js";
import { addDetokenize } from "./commands/detokenize.js";
import { addDoctor } from "./commands/doctor.js";
import { addImport } from "./commands/import.js";
import { addKeys } from "./commands/keys.js";
import { addMigrate } from "./commands/migrate.js";
import { addPolicy } from "./commands/policy.js";
import { addRevoke } from "./commands/revoke.js";
import { addServe } from "./commands/serve.js";
import { addTenants } from "./commands/tenants.js";
import { addTokenize } from "./commands/tokenize.js";
import { addTokens } from "./commands/tokens.js";
import { exitCodesHelp } from "./exit-codes.js";
import type { Shell } from "./shell.js";

/** The `cardex` command line. Throws commander's CommanderError instead of ending the process. */
export function buildProgram(shell: Shell, version: string): Command {
  const program = new Command("cardex")
    .description("A tokenization vault: card numbers only behind a PKCS#11 HSM, an audit log that a stranger can verify.")
    .version(version)
    .helpCommand(false)
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: false, sortSubcommands: false })
    .configureOutput({
      writeOut: (text) => void shell.streams.stdout.write(text),
      writeErr: (text) => void shell.streams.stderr.write(text),
      // A card number that was given where none belongs is not repeated.
      outputError: (text, write) => write(text.replace(/^error: /, "cardex: ").replaceAll(/\d{8,}/g, "[digits]")),
    })
    .addHelpText("after", exitCodesHelp);
  program.commandsGroup("Tokens and cards:");
  addTokenize(program, shell);
  addDetokenize(program, shell);
  addRevoke(program, shell);
  addTokens(program, shell);
  addCards(program, shell);
  addImport(program, shell);
  program.commandsGroup("Audit:");
  addAudit(program, shell);
  program.commandsGroup("Running a vault:");
  addServe(program, shell);
  addDoctor(program, shell);
  addMigrate(program, shell);
  addKeys(program, shell);
  addTenants(program, shell);
  addPolicy(program, shell);
  addCerts(program, shell);
  return program;
}
