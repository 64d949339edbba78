import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startPostgres, type RunningPostgres } from "./postgres.js";
import { isRunning, processIdentity } from "./process-identity.js";

let folder: string;
let postgres: RunningPostgres | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-pg-"));
  await chmod(folder, 0o711);
});

afterEach(async () => {
  await postgres?.stop();
  postgres = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function ask(url: string, statement: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ answer: unknown }>(statement);
    return rows[0]?.answer;
  } finally {
    await client.end();
  }
}

/** Resolves when the process is gone. */
async function gone(identity: string | undefined): Promise<void> {
  while (identity !== undefined && (await isRunning(identity))) await sleep(20);
}

test("a cluster keeps its rows over a stop and over a kill -9 of the postmaster", async () => {
  postgres = await startPostgres({ directory: folder });
  await ask(postgres.adminUrl, "CREATE TABLE kept AS SELECT 1 AS answer");
  await postgres.stop();
  postgres = await startPostgres({ directory: folder });
  await ask(postgres.adminUrl, "INSERT INTO kept VALUES (2)");
  process.kill(postgres.pid, "SIGKILL");
  await postgres.ended;
  postgres = await startPostgres({ directory: folder });
  expect(await ask(postgres.adminUrl, "SELECT sum(answer)::int AS answer FROM kept")).toBe(3);
});

test("the cluster ends when the process that started it is killed with kill -9", async () => {
  const script = `
    const { startPostgres } = await import(${JSON.stringify(new URL("postgres.js", import.meta.url).href)});
    const { pid } = await startPostgres({ directory: ${JSON.stringify(folder)} });
    process.stdout.write(String(pid));
    setInterval(() => {}, 1000);`;
  const starter = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const [chunk] = (await once(starter.stdout, "data")) as [Buffer];
  const postmaster = await processIdentity(Number(chunk.toString()));
  expect(postmaster).toBeDefined();
  starter.kill("SIGKILL");
  await gone(postmaster);
  postgres = await startPostgres({ directory: folder });
  expect(await ask(postgres.adminUrl, "SELECT 1 AS answer")).toBe(1);
});

test("a postmaster that was left running is ended first, so that two never write one cluster", async () => {
  const first = await startPostgres({ directory: folder });
  const announced: string[] = [];
  postgres = await startPostgres({ directory: folder, announce: (line) => announced.push(line) });
  await first.ended;
  expect(announced).toContain("ending the PostgreSQL that an earlier start left behind");
  expect(await ask(postgres.adminUrl, "SELECT 1 AS answer")).toBe(1);
});

test("a lock file whose process ID now belongs to another program is cleared, and that program is left alone", async () => {
  postgres = await startPostgres({ directory: folder });
  await postgres.stop();
  const other = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
  const lock = join(postgres.dataDirectory, "postmaster.pid");
  await writeFile(lock, `${other.pid}\n${postgres.dataDirectory}\n1\n1\n\n127.0.0.1\n\nready\n`);
  postgres = await startPostgres({ directory: folder });
  expect(other.exitCode ?? other.signalCode).toBeNull();
  other.kill();
});

test("a cluster that was left half-made is made anew, and a folder that is none is kept aside", async () => {
  await mkdir(join(folder, "data.new"));
  await mkdir(join(folder, "data"));
  await writeFile(join(folder, "data", "something"), "kept");
  postgres = await startPostgres({ directory: folder });
  const names = await readdir(folder);
  expect(names).not.toContain("data.new");
  const aside = names.find((name) => name.startsWith("data.broken-"));
  expect(await readFile(join(folder, aside ?? "", "something"), "utf8")).toBe("kept");
});

test("a port that is taken is passed over", async () => {
  postgres = await startPostgres({ directory: folder });
  const { port } = postgres;
  const other = await mkdtemp(join(tmpdir(), "cardex-pg-"));
  await chmod(other, 0o711);
  const second = await startPostgres({ directory: other, port });
  expect(second.port).not.toBe(port);
  await second.stop();
  await rm(other, { recursive: true, force: true });
});

test("neither a statement nor a value stands in the log, even when a statement fails", async () => {
  postgres = await startPostgres({ directory: folder });
  await ask(postgres.adminUrl, "CREATE TABLE secret (answer text PRIMARY KEY)");
  await ask(postgres.adminUrl, "INSERT INTO secret VALUES ('canary-4711')");
  await expect(ask(postgres.adminUrl, "INSERT INTO secret VALUES ('canary-4711')")).rejects.toThrow(/duplicate key/);
  const log = await readFile(postgres.logFile, "utf8");
  expect(log).toContain("duplicate key");
  expect(log).not.toContain("canary");
});
