import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { environment } from "../../src/config.js";
import { startPostgres, type RunningPostgres } from "../../src/dev/postgres.js";

/** What every test file may know of the cluster of this run. */
export interface TestCluster {
  /** A superuser, or one who may create roles and databases. */
  readonly adminUrl: string;
  /** Logins that are members of cardex_service and of cardex_auditor, once these roles exist; made for this run. */
  readonly serviceLogin: string;
  readonly auditorLogin: string;
  readonly password: string;
  /** Data folder, for scans of the files; undefined where the cluster is not ours. */
  readonly dataDirectory: string | undefined;
}

declare module "vitest" {
  interface ProvidedContext {
    readonly cluster: TestCluster;
  }
}

/** Starts one PostgreSQL for the whole run, or uses that of CARDEX_DATABASE_URL. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = environment.databaseUrl();
  const folder = await mkdtemp(join(tmpdir(), "cardex-test-"));
  // As root PostgreSQL runs as another user, who has to get in.
  await chmod(folder, 0o711);
  let postgres: RunningPostgres | undefined;
  if (given === undefined) {
    postgres = await startPostgres({ directory: folder, settings: { max_connections: "300" }, announce: (line) => process.stderr.write(`${line}\n`) });
  }
  const adminUrl = given ?? postgres?.adminUrl ?? "";
  const run = randomBytes(4).toString("hex");
  const cluster: TestCluster = {
    adminUrl,
    serviceLogin: `cardex_test_service_${run}`,
    auditorLogin: `cardex_test_auditor_${run}`,
    password: randomBytes(18).toString("base64url"),
    dataDirectory: postgres?.dataDirectory,
  };
  await asAdmin(adminUrl, [
    ...["cardex_owner", "cardex_service", "cardex_auditor"].map(
      (role) => `DO $$ BEGIN CREATE ROLE ${role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    ),
    `CREATE ROLE ${cluster.serviceLogin} LOGIN PASSWORD '${cluster.password}' IN ROLE cardex_service`,
    `CREATE ROLE ${cluster.auditorLogin} LOGIN PASSWORD '${cluster.password}' IN ROLE cardex_auditor`,
  ]);
  project.provide("cluster", cluster);
  return async () => {
    await asAdmin(adminUrl, [`DROP ROLE ${cluster.serviceLogin}`, `DROP ROLE ${cluster.auditorLogin}`]);
    await postgres?.stop();
    await rm(folder, { recursive: true, force: true });
  };
}

async function asAdmin(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
