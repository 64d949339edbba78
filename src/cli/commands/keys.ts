import type { Command } from "commander";
import { clearRefusal } from "../../keys/login-guard.js";
import { initializeKeys, type KeysMade } from "../../keys/initialize.js";
import { listRegisteredKeys, type RegisteredKey } from "../../store/keys.js";
import { listLoginRefusals } from "../../store/login-refusals.js";
import { type AdministrationOptions, actor, configOf, recordActs, withAdministration, withHsm, withOwner } from "../administration.js";
import { table } from "../output.js";
import type { Shell } from "../shell.js";

/** `cardex keys init`, `list` and `clear-refusal`. */
export function addKeys(program: Command, shell: Shell): void {
  const keys = program.command("keys").summary("make and list keys").description("The keys in the HSM. Servers never make any.");
  addInit(keys, shell);
  addList(keys, shell);
  addClearRefusal(keys, shell);
}

function addInit(keys: Command, shell: Shell): void {
  const command = keys
    .command("init")
    .description("Makes the installation's keys in the HSM where they are missing: fingerprint, request and audit. Safe to repeat. Asks for the PIN where the configuration names no file.")
    .addHelpText("after", "\nExample:\n  cardex keys init --config /etc/cardex/cardex.json");
  withAdministration(command).action(async (options: AdministrationOptions) => {
    const config = configOf(options);
    const outcome = await withOwner(options, (database) => withHsm(shell, config, database, (hsm) => initializeKeys(hsm, hsm, database, actor())));
    await reportKeys(shell, options, outcome);
  });
}

/** Tells what was made, records it, and names what lies on the token without being registered. */
export async function reportKeys(shell: Shell, options: AdministrationOptions, outcome: KeysMade): Promise<void> {
  const { made, present, leftovers } = outcome;
  await recordActs(
    options,
    made.map((key) => ({ name: "key.created", facts: { key: key.keyId, label: key.label, check_value: key.checkValue } })),
  );
  for (const { label, id } of leftovers) shell.tell(`warning: the token has a key "${label}" (CKA_ID ${id}) that is not registered; it is not used`);
  if (options.json === true) {
    const shown = (key: RegisteredKey): object => ({ label: key.label, version: key.version, kind: key.kind, checkValue: key.checkValue });
    await shell.print(JSON.stringify({ made: made.map(shown), present: present.map(shown) }));
  } else {
    for (const key of made) await shell.print(`made     ${key.label}  check value ${key.checkValue}`);
    for (const key of present) await shell.print(`present  ${key.label}  check value ${key.checkValue}`);
  }
}

function addList(keys: Command, shell: Shell): void {
  const command = keys
    .command("list")
    .description("Lists the register of keys (PCI DSS 3.6.1.1): purpose, tenant, version, state, algorithm, check value, who made them and when. cardex doctor checks it against the HSM.")
    .addHelpText("after", "\nExample:\n  cardex keys list --json");
  withAdministration(command).action(async (options: AdministrationOptions) => {
    const rows = await withOwner(options, (database) => listRegisteredKeys(database));
    if (options.json === true) {
      for (const { knownAnswer: _, ...key } of rows) await shell.print(JSON.stringify(key));
      return;
    }
    const cells = rows.map((key) => [key.purpose, key.tenant ?? "", String(key.version), key.state, key.kind, key.checkValue, key.createdAt.toISOString(), key.createdBy]);
    await shell.print(table(["PURPOSE", "TENANT", "VERSION", "STATE", "KIND", "CHECK VALUE", "CREATED", "BY"], cells));
  });
}

function addClearRefusal(keys: Command, shell: Shell): void {
  const command = keys
    .command("clear-refusal")
    .alias("clear-pin-refusal")
    .description("Lets servers try the PIN again after the HSM refused it. Correct the PIN first: real HSMs lock after a few wrong ones.")
    .argument("[token-serial]", "only for this token; default: for all")
    .addHelpText("after", "\nExample:\n  cardex keys clear-refusal");
  withAdministration(command).action(async (tokenSerial: string | undefined, options: AdministrationOptions) => {
    const cleared = await withOwner(options, async (database) => {
      const serials = tokenSerial === undefined ? await listLoginRefusals(database) : [tokenSerial];
      const done: string[] = [];
      for (const serial of serials) if ((await clearRefusal(database, serial)) !== undefined) done.push(serial);
      return done;
    });
    await recordActs(
      options,
      cleared.map((serial) => ({ name: "hsm.login_refusal_cleared", facts: { token_serial: serial } })),
    );
    if (options.json === true) await shell.print(JSON.stringify({ cleared }));
    else await shell.print(cleared.length === 0 ? "no refusal was recorded" : `cleared for token ${cleared.join(", ")}`);
  });
}
