import type { Command } from "commander";
import { readFile } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import { isAbsolute, join } from "node:path";
import type { ReadStream } from "node:tty";
import type { Hsm, KeyMaker } from "../../hsm/hsm.js";
import { CommittedWriter } from "../audit/committed-writer.js";
import { noticeDraft } from "../audit/entry.js";
import { noticeCall } from "../audit/notice-call.js";
import { type Config, environment, readConfig } from "../config.js";
import { StoredLoginGuard } from "../keys/login-guard.js";
import { Database } from "../store/database.js";
import { CommandFailure, usageFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";
import type { Shell } from "./shell.js";

/** Options of a command that works on database and HSM themselves, not through the API. */
export interface AdministrationOptions {
  readonly config?: string;
  readonly state: string;
  readonly databaseUrl?: string;
  readonly json?: true;
}

/** Adds the options of such a command. */
export function withAdministration(command: Command): Command {
  return command
    .optionsGroup("Installation:")
    .option("--config <file>", "configuration of the server (or CARDEX_CONFIG); default: cardex.json in the state folder")
    .option("--state <folder>", "state folder of a development set-up", ".cardex")
    .option(
      "--database-url <url>",
      "PostgreSQL, as a login that may act as cardex_owner; better in CARDEX_OWNER_DATABASE_URL, for arguments can be seen by others. Default: what the development set-up keeps",
    )
    .optionsGroup("Output:")
    .option("--json", "JSON, one object a line");
}

/** The server configuration where the user names none. */
export function configFileOf(options: { readonly config?: string; readonly state: string }): string {
  const file = options.config ?? environment.configFile() ?? join(options.state, "cardex.json");
  return isAbsolute(file) ? file : join(process.cwd(), file);
}

/** Who acts, for the register of keys and the audit log: the account on this machine. */
export function actor(): string {
  return `${userInfo().username}@${hostname()}`;
}

/** @throws CommandFailure if the owner's database is named nowhere */
export async function ownerUrl(options: AdministrationOptions): Promise<string> {
  const named = options.databaseUrl ?? environment.get("CARDEX_OWNER_DATABASE_URL");
  if (named !== undefined && named !== "") return named;
  const file = join(options.state, "secrets", "owner.url");
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw usageFailure("no owner database: set CARDEX_OWNER_DATABASE_URL to the URL of a login that may act as cardex_owner");
  }
}

function ownerConfig(url: string): Config["database"] {
  return { url, role: "cardex_owner", pool: 2, auditPool: 1, connect_ms: 10_000, statement_ms: 60_000 };
}

/** Runs with the database as its owner. */
export async function withOwner<T>(options: AdministrationOptions, work: (database: Database) => Promise<T>): Promise<T> {
  const database = new Database(ownerConfig(await ownerUrl(options)));
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** Runs with the HSM of the configuration, logged in; asks for the PIN where the configuration names none. */
export async function withHsm<T>(shell: Shell, config: Config, database: Database, work: (hsm: Hsm & KeyMaker) => Promise<T>): Promise<T> {
  // Loaded only where it is needed: other commands work without the native module.
  const [{ openHsm }, { hsmOptions }, { readPin }] = await Promise.all([
    import("../../hsm/driver.js"),
    import("../../hsm/options.js"),
    import("../../hsm/pin.js"),
  ]);
  const pin = await readPin(config.hsm, { input: shell.streams.stdin as ReadStream, output: shell.streams.stderr as NodeJS.WriteStream });
  const hsm = await openHsm({ ...hsmOptions(config, pin), lanes: 1 }, new StoredLoginGuard(database), {
    hung: () => {
      shell.tell("cardex: an HSM call does not return; ending");
      process.kill(process.pid, "SIGKILL");
    },
    stateChanged: () => {},
  });
  try {
    return await work(hsm);
  } finally {
    await hsm.close();
  }
}

/** The server's configuration for the command. @throws ConfigError */
export function configOf(options: AdministrationOptions): Config {
  return readConfig(configFileOf(options));
}

/** Something that was done to the installation. */
export interface Act {
  readonly name: string;
  readonly facts: Readonly<Record<string, string | number>>;
}

/**
 * Leaves an entry for each act in the audit log of the installation (PCI DSS 10.2.1.2, 10.2.1.5, 10.2.1.7).
 * @throws CommandFailure: what was done stands, but is not recorded
 */
export async function recordActs(options: AdministrationOptions, acts: readonly Act[]): Promise<void> {
  if (acts.length === 0) return;
  const observer = { headMoved: () => {}, withheld: () => {}, notDone: () => {}, commitResolved: () => {}, workFailed: () => {} };
  const writer = new CommittedWriter({ database: ownerConfig(await ownerUrl(options)), stream: "notice", queue_max: 10, batch_max: 10, observer });
  try {
    const by = actor();
    await writer.append(noticeCall, acts.map(({ name, facts }) => noticeDraft("system", name, { ...facts, by })), false);
  } catch (error) {
    throw new CommandFailure(exitCodes.failed, `done, but the audit log does not have it (${acts.map(({ name }) => name).join(", ")}): the entry could not be committed`, error);
  } finally {
    await writer.close();
  }
}
