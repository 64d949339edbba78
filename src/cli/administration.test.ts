import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/database.js";
import { type FreshToken, freshToken } from "../../test/support/token.js";
import { exitCodes } from "./exit-codes.js";
import { run } from "./run.js";
import { Shell } from "./shell.js";

let folder: string;
let database: FreshDatabase;
let token: FreshToken;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-administration-"));
  database = await freshDatabase({ migrated: false });
  token = await freshToken();
  const at = (name: string): string => join(folder, name);
  await writeFile(at("user.pin"), token.options.pin.open(), { mode: 0o600 });
  const config = {
    profile: "development",
    listen: { port: 1 },
    probe: { port: 1 },
    tls: { certFile: at("certs/server.pem"), keyFile: at("certs/server.key"), clientCaFile: at("certs/ca.pem"), trustDomain: "cardex.dev" },
    database: database.service,
    hsm: { library: token.options.library, tokenLabel: token.options.tokenLabel, pinFile: at("user.pin"), softhsmConf: token.options.softhsmConf },
  };
  await writeFile(at("cardex.json"), JSON.stringify(config));
});

afterAll(async () => {
  await token.close();
  await database.close();
  await rm(folder, { recursive: true });
});

async function cardex(...words: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const shell = new Shell({ stdin: Readable.from([]), stdout, stderr });
  const code = await run(shell, words, { version: "0.0.0", debug: false });
  return { code, out: String(stdout.read() ?? ""), err: String(stderr.read() ?? "") };
}

const inFolder = (): string[] => ["--state", folder];
const asOwner = (): string[] => [...inFolder(), "--database-url", database.ownerUrl];

/** Kinds of the entries in the log of the installation, in order. */
async function recorded(): Promise<string[]> {
  const client = new pg.Client({ connectionString: database.adminUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ kind: string }>("select line::jsonb->>'kind' as kind from cardex.audit_entries where log = 'system' order by at, seq");
    return rows.map((row) => row.kind);
  } finally {
    await client.end();
  }
}

describe.sequential("an installation is made by commands alone", () => {
  it("certs makes what is missing, and leaves what is good", async () => {
    expect(await cardex("certs", ...inFolder())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining("made in") });
    expect(await cardex("certs", ...inFolder())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining("are good") });
  });

  it("keys init and doctor say what is missing before the database is migrated", async () => {
    expect(await cardex("keys", "init", ...inFolder())).toMatchObject({ code: exitCodes.usage, err: expect.stringContaining("CARDEX_OWNER_DATABASE_URL") });
    const { code, out } = await cardex("doctor", ...inFolder());
    expect(code).toBe(exitCodes.failed);
    expect(out).toContain("run: cardex migrate");
  });

  it("migrate brings the schema, and does nothing the second time", async () => {
    expect(await cardex("migrate", ...asOwner())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining("migrations done") });
    expect(await cardex("migrate", ...asOwner())).toMatchObject({ code: exitCodes.ok, out: "up to date\n" });
  });

  it("keys init makes the keys once, tenants add a tenant with its key", async () => {
    const first = JSON.parse((await cardex("keys", "init", "--json", ...asOwner())).out) as { made: { label: string }[] };
    expect(first.made.map(({ label }) => label)).toEqual(["cardex fingerprint v1", "cardex request v1", "cardex audit v1"]);
    expect(await cardex("keys", "init", "--json", ...asOwner())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining('"made":[]') });
    expect(await cardex("tenants", "add", "acme", "--institution", "4000", ...asOwner())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining("institution 4000") });
    expect(await cardex("tenants", "add", "Acme!", ...asOwner())).toMatchObject({ code: exitCodes.usage });
    expect((await cardex("tenants", "list", ...asOwner())).out).toMatch(/acme +4000/);
    expect((await cardex("keys", "list", ...asOwner())).out).toMatch(/pan +acme +1 +active +aes-256-gcm/);
    expect((await cardex("keys", "list", "--json", ...asOwner())).out).not.toContain("knownAnswer");
  });

  it("policy takes the default rules and gives and takes roles", async () => {
    const principal = "spiffe://cardex.dev/tenant/acme/auditor-1";
    expect(await cardex("policy", "apply", "default", ...asOwner())).toMatchObject({ code: exitCodes.ok });
    expect(await cardex("policy", "grant", principal, "auditor", ...asOwner())).toMatchObject({ out: `${principal} has it now: auditor\n` });
    expect(await cardex("policy", "grant", principal, "auditor", ...asOwner())).toMatchObject({ out: `${principal} had it already: auditor\n` });
    expect((await cardex("policy", "show", ...asOwner())).out).toContain(`g,${principal},auditor,acme`);
    expect(await cardex("policy", "grant", principal, "emperor", ...asOwner())).toMatchObject({ code: exitCodes.usage, err: expect.stringContaining('no role "emperor"') });
    expect(await cardex("policy", "revoke", principal, "auditor", ...asOwner())).toMatchObject({ out: `${principal} has it no more: auditor\n` });
    const shown = join(folder, "policy.csv");
    await writeFile(shown, (await cardex("policy", "show", ...asOwner())).out);
    expect(await cardex("policy", "apply", shown, ...asOwner())).toMatchObject({ code: exitCodes.ok });
  });

  it("each act is in the log of the installation, and none that changed nothing", async () => {
    expect(await recorded()).toEqual([
      "schema.migrated",
      "key.created",
      "key.created",
      "key.created",
      "tenant.added",
      "key.created",
      "policy.applied",
      "policy.role_granted",
      "policy.role_revoked",
      "policy.applied",
    ]);
  });

  it("doctor finds nothing to mend but the server that does not run", async () => {
    const { code, out } = await cardex("doctor", "--json", ...inFolder());
    const findings = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { result: string; what: string });
    expect(findings.filter(({ result }) => result !== "ok")).toMatchObject([{ result: "warn", what: "server" }]);
    expect(findings.map(({ what }) => what)).toEqual(expect.arrayContaining(["configuration", "server certificate", "PostgreSQL", "clock", "migrations", "audit tables", "HSM token", "key cardex pan acme v1"]));
    expect(code).toBe(exitCodes.ok);
  });

  it("doctor leaves alone the clients of a state folder whose configuration is another", async () => {
    const other = join(folder, "other");
    await mkdir(other);
    await writeFile(join(other, "client.json"), "{}");
    const { code, out } = await cardex("doctor", "--config", join(folder, "cardex.json"), "--state", other);
    expect(code, out).toBe(exitCodes.ok);
  });

  it("doctor says what to do about a PIN file that others can read", async () => {
    await chmod(join(folder, "user.pin"), 0o644);
    const { code, out } = await cardex("doctor", ...inFolder());
    expect(code).toBe(exitCodes.failed);
    expect(out).toContain("can be read by others: chmod 600");
    await chmod(join(folder, "user.pin"), 0o600);
  });

  it("a wrong PIN is tried once, then not again until it is cleared", async () => {
    await writeFile(join(folder, "user.pin"), "wrong-pin-1");
    for (const _ of [1, 2]) expect((await cardex("doctor", ...inFolder())).out).toContain("cardex keys clear-refusal");
    await writeFile(join(folder, "user.pin"), token.options.pin.open());
    expect((await cardex("doctor", ...inFolder())).code).toBe(exitCodes.failed);
    expect(await cardex("keys", "clear-refusal", ...asOwner())).toMatchObject({ code: exitCodes.ok, out: expect.stringContaining(token.serial) });
    expect((await cardex("doctor", ...inFolder())).code).toBe(exitCodes.ok);
    expect(await recorded()).toContain("hsm.login_refusal_cleared");
  });
});
