import { rm, stat } from "node:fs/promises";
import { relative } from "node:path";
import { environment } from "../config.js";
import { ensureDatabase, ensureServerLogin, requireDatabase } from "./database.js";
import { demonstrate } from "./demonstration.js";
import { watchForEnd, type EndSignals } from "./end-signals.js";
import { demoTenant, furnish } from "./installation.js";
import { asObstacle, Obstacle } from "./obstacle.js";
import { startPostgres, type RunningPostgres } from "./postgres.js";
import { readStartOptions, type StartOptions } from "./start-options.js";
import { takeStartLock } from "./start-lock.js";
import { choosePorts, layoutOf, makeFolders, writeState, type Ports, type StateLayout } from "./state.js";
import { endLeftServer, Supervisor } from "./supervisor.js";

const logSize_bytes_max = 10_000_000;

function announce(line: string): void {
  process.stderr.write(`cardex: ${line}\n`);
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

/**
 * `npm start` after the build: makes or repairs the installation of this checkout, starts PostgreSQL and the server, shows what the vault
 * does, and stays up until it is told to end.
 * @returns the exit code: 0 after --demo, or when it was told to end
 * @throws Obstacle and others that say why not
 */
export async function start(args: readonly string[]): Promise<number> {
  const options = readStartOptions(args);
  const layout = layoutOf(options.state);
  // What has to be undone, last first.
  const undo: (() => Promise<void>)[] = [];
  const end = watchForEnd(announce);
  try {
    return await Promise.race([run(options, layout, undo, end), end.asked]);
  } catch (error) {
    throw pinRefused(error, layout) ?? asObstacle(error, "starting");
  } finally {
    for (const step of undo.toReversed()) await step();
  }
}

async function run(options: StartOptions, layout: StateLayout, undo: (() => Promise<void>)[], end: EndSignals): Promise<number> {
  await makeFolders(layout);
  undo.push(await takeStartLock(layout.lock));
  await endLeftServer(layout.serverProcess, announce);
  const ports = await choosePorts(layout, options.ports);
  const database = await openDatabase(layout, ports, undo, end);
  await furnish({
    layout,
    ports,
    ownerUrl: database.ownerUrl,
    serverLogin: database.serverLogin,
    tenants: [demoTenant],
    clearPinRefusal: options.clearPinRefusal,
    announce,
  });
  await dropLongLog(layout.serverLog);
  const place = { configFile: layout.configFile, logFile: layout.serverLog, probePort: ports.probe };
  const supervisor = await Supervisor.start(place, layout.serverProcess, announce);
  void end.forced.then(() => supervisor.kill());
  undo.push(async () => {
    await supervisor.stop();
    await rm(layout.serverProcess, { force: true });
  });
  announce(`serving on 127.0.0.1:${ports.grpc} (gRPC, mTLS); probes on http://127.0.0.1:${ports.probe}/readyz; log in ${layout.serverLog}`);
  await demonstrate(layout, tell);
  if (options.demonstrationOnly) return 0;
  tellNextCommands(layout);
  throw new Obstacle(`the vault stopped: ${await Promise.race([supervisor.gaveUp, database.ended])}`);
}

/** The command that an operator has needs PostgreSQL, which ends with this start. */
function pinRefused(error: unknown, layout: StateLayout): Obstacle | undefined {
  if (!(error instanceof Obstacle) || !error.message.includes("refused the PIN")) return undefined;
  return new Obstacle(
    `the HSM token refused the PIN of ${layout.userPin}, and it is not tried again: put the right PIN there, then run "npm start -- --clear-pin-refusal"`,
    { cause: error },
  );
}

interface OpenDatabase {
  readonly ownerUrl: string;
  readonly serverLogin: () => Promise<{ url: string; role?: string }>;
  /** Resolves, with the reason, when PostgreSQL ended though nobody wanted it. */
  readonly ended: Promise<string>;
}

async function openDatabase(layout: StateLayout, ports: Ports, undo: (() => Promise<void>)[], end: EndSignals): Promise<OpenDatabase> {
  const given = environment.databaseUrl();
  if (given !== undefined) {
    announce("using the PostgreSQL of CARDEX_DATABASE_URL");
    await requireDatabase(given, "CARDEX_DATABASE_URL");
    return { ownerUrl: given, serverLogin: () => Promise.resolve({ url: given, role: "cardex_service" }), ended: new Promise(() => {}) };
  }
  const postgres: RunningPostgres = await startPostgres({ directory: layout.postgres, port: ports.postgres, announce });
  void end.forced.then(() => postgres.kill());
  undo.push(() => postgres.stop());
  if (postgres.port !== ports.postgres) await writeState(layout, { ...ports, postgres: postgres.port });
  const ownerUrl = await ensureDatabase(postgres);
  const ended = postgres.ended.then(() => `PostgreSQL ended; see ${postgres.logFile}, then start again`);
  return { ownerUrl, serverLogin: () => ensureServerLogin(postgres, layout.databasePassword), ended };
}

async function dropLongLog(path: string): Promise<void> {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  if (size > logSize_bytes_max) await rm(path);
}

function tellNextCommands(layout: StateLayout): void {
  const folder = relative(process.cwd(), layout.folder);
  const state = folder === ".cardex" ? "" : ` --state ${folder}`;
  tell(`
The vault stays up; Ctrl-C ends it. Next, in another terminal:

  npx cardex tokenize --expiry 2035-12${state}
  npx cardex detokenize <token> --purpose payment${state}
  npx cardex cards get <token or index code>${state}
  npx cardex audit export --out audit.jsonl${state} && npx cardex audit verify audit.jsonl
  npx cardex import cards.csv --out tokens.csv${state}
  npx cardex --help`);
}
