import type { Command } from "commander";
import { migrate } from "../../store/migrate.js";
import { type AdministrationOptions, ownerUrl, recordActs, withAdministration } from "../administration.js";
import type { Shell } from "../shell.js";

/** `cardex migrate`. */
export function addMigrate(program: Command, shell: Shell): void {
  const command = program
    .command("migrate")
    .summary("bring the database to this version")
    .description("Makes roles and schema where they are missing and runs every migration that has not run. Safe to repeat, and while the version before still serves.")
    .addHelpText("after", "\nExample:\n  CARDEX_OWNER_DATABASE_URL=postgres://owner@db/cardex cardex migrate");
  withAdministration(command).action(async (options: AdministrationOptions) => {
    const url = await ownerUrl(options);
    const { applied } = await migrate(url, (line) => {
      if (options.json !== true) shell.tell(line);
    });
    if (applied.length > 0) await recordActs(options, [{ name: "schema.migrated", facts: { migrations: applied.join(", ") } }]);
    await shell.print(options.json === true ? JSON.stringify({ applied }) : applied.length === 0 ? "up to date" : `${applied.length} migrations done`);
  });
}
