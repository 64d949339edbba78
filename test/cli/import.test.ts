import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Role } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";

const command = join(dirname(fileURLToPath(import.meta.url)), "../../src/cli/cardex.js");
const rows = 6000;

let vault: TestInstallation;
let folder: string;
let database: pg.Client;

beforeAll(async () => {
  vault = await startInstallation();
  folder = vault.layout.folder;
  database = new pg.Client({ connectionString: vault.database.adminUrl, options: "-c search_path=cardex" });
  await database.connect();
  const lines = Array.from({ length: rows }, (_, i) => {
    const { pan, expiry, name } = testCard(i);
    return `${i % 1000 === 7 ? `${pan.slice(0, -1)}x` : pan},${expiry},${name},order ${i}`;
  });
  await writeFile(join(folder, "cards.csv"), `pan,expiry,cardholder_name,external_reference\n${lines.join("\n")}\n`);
});
afterAll(async () => {
  await database.end();
  await vault.stop();
});

interface Ended {
  readonly code: number | null;
  readonly text: string;
}

function start(words: readonly string[]): { readonly child: ReturnType<typeof spawn>; readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [command, ...words], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => chunks.push(chunk));
  return { child, ended: once(child, "close").then(([code]) => ({ code: code as number | null, text: Buffer.concat(chunks).toString("utf8") })) };
}

const cardex = (role: Role, ...words: string[]) => start([...words, ...connection(role)]);
const offline = (...words: string[]): Promise<Ended> => start(words).ended;

function connection(role: Role): string[] {
  const at = (name: string): string => join(vault.layout.certificates, name);
  return ["--server", `127.0.0.1:${vault.servers[0]?.port ?? 0}`, "--ca", at("ca.pem"), "--cert", at(`${role}.pem`), "--key", at(`${role}.key`)];
}

const size = async (name: string): Promise<number> => (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0;
const count = async (table: string): Promise<number> => Number((await database.query<{ count: string }>(`select count(*) from ${table}`)).rows[0]?.count);

test("an import that is killed again and again, its server too, ends with one card and one token a row, and every card comes back", { timeout: 180_000 }, async () => {
  let last = { code: null as number | null, text: "" };
  let kills = 0;
  for (let run = 0; run < 40 && last.code !== 7; run++) {
    const before = await size("tokens.csv");
    const { child, ended } = cardex("payment-gateway", "import", "cards.csv", "--out", "tokens.csv", "--batch", "200");
    if (run < 4) {
      while (child.exitCode === null && (await size("tokens.csv")) < before + 30_000) await sleep(5);
      if (child.exitCode === null) kills += 1;
      if (run === 2) {
        await vault.kill9();
        await vault.restart();
      }
      child.kill("SIGKILL");
    }
    last = await ended;
  }
  expect(kills).toBeGreaterThan(1);
  expect(last.code, last.text).toBe(7);
  expect(await count("cards")).toBe(rows - 6);
  expect(await count("tokens")).toBe(rows - 6);
  const written = (await readFile(join(folder, "tokens.csv"), "utf8")).trimEnd().split("\n").slice(1);
  expect(written).toHaveLength(rows - 6);
  expect(new Set(written.map((line) => line.split(",")[2])).size).toBe(rows - 6);
  const rejected = await readFile(join(folder, "tokens.csv.rejects.csv"), "utf8");
  expect(rejected.trimEnd().split("\n")).toHaveLength(1 + 6);

  const compared = await cardex("payment-gateway", "detokenize", "--in", "tokens.csv", "--purpose", "migration", "--compare", "cards.csv").ended;
  expect(compared.code, compared.text).toBe(0);
  expect(compared.text).toContain("5994 equal");
  const everything = [written.join("\n"), rejected, last.text, compared.text].join("\n");
  for (let i = 0; i < rows; i++) if (everything.includes(testCard(i).pan)) throw new Error(`card ${i} stands in an output`);
});

test("an export of the log of all this verifies, and one with a line taken out does not", { timeout: 60_000 }, async () => {
  const exported = await cardex("auditor", "audit", "export", "--out", "audit.jsonl").ended;
  expect(exported.code, exported.text).toBe(0);
  expect((await offline("audit", "verify", "audit.jsonl")).code).toBe(0);
  const lines = (await readFile(join(folder, "audit.jsonl"), "utf8")).split("\n");
  await writeFile(join(folder, "audit.jsonl"), [...lines.slice(0, 20), ...lines.slice(21)].join("\n"));
  expect((await offline("audit", "verify", "audit.jsonl")).code).toBe(6);
});
