import type { Command } from "commander";
import { configFileOf } from "../administration.js";
import type { Shell } from "../shell.js";

/** `cardex serve`: the server itself. Loaded only here, for it brings the HSM library into the process. */
export function addServe(program: Command, shell: Shell): void {
  program
    .command("serve")
    .summary("run the server")
    .description(
      "Runs the server until it is told to stop (SIGTERM or Ctrl-C): calls under way are finished first. Logs JSON lines to stderr. Exit codes besides the common ones: 77 if the HSM refused the PIN, 78 if the configuration can't be used; a supervisor should not start it again after these.",
    )
    .option("--config <file>", "configuration of the server (or CARDEX_CONFIG); default: cardex.json in the state folder")
    .option("--state <folder>", "state folder of a development set-up", ".cardex")
    .addHelpText("after", "\nExample:\n  cardex serve --config /etc/cardex/cardex.json")
    .action(async (options: { readonly config?: string; readonly state: string }) => {
      shell.ownSignals = true;
      const { serve } = await import("../../main.js");
      shell.exitCode = await serve(configFileOf(options));
    });
}
