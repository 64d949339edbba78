import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { environment } from "../config.js";
import { Obstacle } from "./obstacle.js";
import type { StateLayout } from "./state.js";
import { testCard } from "./test-cards.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../cli/cardex.js", import.meta.url));

/** Cards in the demonstration's file: the first time, and when it is shown again, so that a second start takes no longer than it must. */
const cards_first = 1000;
const cards_again = 100;

/** Imports a file of test cards with the command that users have, detokenizes all tokens again, and compares. */
export async function compareImported(layout: StateLayout, tell: (line: string) => void): Promise<void> {
  const input = join(layout.demonstration, "cards.csv");
  const output = join(layout.demonstration, "tokens.csv");
  const cards = existsSync(output) ? cards_again : cards_first;
  const rows = Array.from({ length: cards }, (_, i) => testCard(i + 1)).map(({ pan, expiry, name }, i) => `${pan},${expiry},${name},row ${i + 1}`);
  await writeFile(input, `pan,expiry,cardholder_name,external_reference\n${rows.join("\n")}\n`, { mode: 0o600 });
  try {
    await cardex(layout, ["import", input, "--out", output, "--reuse", "--force"]);
    tell(`payment gateway   imports a file of ${cards.toLocaleString("en")} test cards -> ${output}`);
    await cardex(layout, ["detokenize", "--in", output, "--purpose", "migration", "--compare", input]);
    tell(`payment gateway   detokenizes all of them and compares: ${cards.toLocaleString("en")} equal, 0 different`);
  } finally {
    // Test cards or not: no file of card numbers stays behind.
    await rm(input, { force: true });
  }
}

/** @throws Obstacle with the last line that the command wrote */
async function cardex(layout: StateLayout, args: readonly string[]): Promise<void> {
  try {
    await run(process.execPath, [program, ...args, "--state", layout.folder, "--as", "payment-gateway"], { env: { PATH: environment.get("PATH") } });
  } catch (error) {
    const { stderr = "" } = error as { stderr?: string };
    throw new Obstacle(`the demonstration failed: cardex ${args[0]}: ${stderr.trim().split("\n").at(-1) ?? "no reason given"}`, { cause: error });
  }
}
