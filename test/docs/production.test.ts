import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../src/dev/postgres.js";
import { checkout } from "../support/checkout.js";
import { CommandSession, notShown, type Running } from "../support/command-session.js";
import { type FreshDatabase, freshDatabase } from "../support/database.js";
import { type CommandBlock, commandsOf, fencesOf } from "../support/markdown.js";
import { type FreshToken, freshToken } from "../support/token.js";
import { documents, isRehearsed } from "./documents.js";

const blocks = documents.flatMap(commandsOf).filter(isRehearsed);
const shownConfig = fencesOf("README.md").find(({ language, section }) => language === "json" && section === "Running it in production")?.text ?? "";
const shownSql = fencesOf("docs/operations.md").find(({ language }) => language === "sql")?.text ?? "";

let folder: string;
let database: FreshDatabase;
let token: FreshToken;
let session: CommandSession;
let server: Running | undefined;
let ports: { grpc: number; probe: number };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-production-"));
  [database, token] = await Promise.all([freshDatabase({ migrated: false }), freshToken()]);
  ports = { grpc: await freePort(), probe: await freePort() };
  session = await CommandSession.open(checkout, here);
  await writeFile(join(folder, "user.pin"), token.options.pin.open());
  await chmod(join(folder, "user.pin"), 0o600);
  await writeConfig("development");
  // The certificates come before all else, as docs/operations.md says.
  const certificates = commandsOf("docs/operations.md")[0];
  expect((await session.run(certificates?.text ?? "false")).code).toBe(0);
});

afterAll(async () => {
  await server?.stop();
  await session.close();
  await token.close();
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

/** What stands for the names that only a reader has. */
function here(text: string): string {
  return text
    .replaceAll("postgres://cardex_admin@db.example.org/cardex", database.ownerUrl)
    .replaceAll("postgres://cardex_server@db.example.org/cardex", database.service.url)
    .replaceAll("/etc/cardex", folder)
    .replaceAll("0.0.0.0", "127.0.0.1")
    .replaceAll("7443", String(ports.grpc))
    .replaceAll("7480", String(ports.probe));
}

/** The configuration that README shows, with this machine's token in it. */
async function writeConfig(profile: string): Promise<void> {
  const config = JSON.parse(here(shownConfig)) as { hsm: object };
  const { library, tokenLabel, softhsmConf } = token.options;
  await writeFile(join(folder, "cardex.json"), JSON.stringify({ ...config, profile, hsm: { ...config.hsm, library, tokenLabel, softhsmConf } }), { mode: 0o600 });
}

/** Runs a block line by line where the server is started in it, else as a whole. */
async function runBlock({ text }: CommandBlock): Promise<string> {
  const lines = text.split("\n");
  const serve = lines.indexOf("npx cardex serve");
  const before = (serve === -1 ? lines : lines.slice(0, serve)).join("\n");
  const { code, output } = await session.run(before);
  expect(code, output).toBe(0);
  if (serve !== -1) {
    await server?.stop();
    server = await session.start("npx cardex serve", () => isReady());
  }
  return output;
}

async function isReady(): Promise<boolean> {
  return await new Promise((resolve) => {
    get({ host: "127.0.0.1", port: ports.probe, path: "/readyz" }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).once("error", () => resolve(false));
  });
}

describe.sequential("an installation of one's own is made as the documents say", () => {
  for (const block of blocks) {
    it(`${block.file}:${block.line} ${block.text.split("\n")[0]}`, async () => {
      const output = await runBlock(block);
      expect(notShown(output, block.shown), output).toEqual([]);
    });
  }

  it("the server's login may be a member of cardex_service alone, made by the statement shown", async () => {
    const client = new pg.Client({ connectionString: database.adminUrl });
    await client.connect();
    try {
      await client.query("begin");
      await client.query(shownSql);
      const { rows } = await client.query("select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles l on l.oid = m.member where l.rolname = 'cardex_server'");
      expect(rows).toEqual([{ rolname: "cardex_service" }]);
      await client.query("rollback");
    } finally {
      await client.end();
    }
  });

  it("SIGTERM ends the server in order", async () => {
    const ended = await server?.stop();
    server = undefined;
    expect(ended?.output).toContain('"msg":"stopped"');
  });

  it("in the production profile SoftHSM2 is refused, with exit code 78 and what to do (PCI DSS 3.6.1.2)", async () => {
    await writeConfig("production");
    const { code, output } = await session.run("npx cardex serve");
    expect(code, output).toBe(78);
    expect(output).toContain("name a hardware provider, or set profile to development");
  });
});
