import { fileURLToPath } from "node:url";
import pg from "pg";
import Postgrator from "postgrator";

/** The owner of the schema, the role of the servers, the role that reads the audit tables. None of them can log in. */
export const databaseRoles = ["cardex_owner", "cardex_service", "cardex_auditor"] as const;

/** Any number that all who migrate agree on: the key of the advisory lock, "cardex" in ASCII. */
const lockKey = 0x636172646578;

/** A database that can't be migrated: `message` is one line that says why and what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

/**
 * Brings the database to the newest schema: roles and schema where they are missing, then every migration that has not run,
 * each in one transaction. Safe to call from several processes at once (advisory lock) and in several databases of one
 * cluster at once.
 * @param ownerUrl a login that is, or may become, cardex_owner; it must be able to create roles if they are missing
 * @throws MigrationError, or pg's own error if the database is away
 */
export async function migrate(ownerUrl: string, log: (line: string) => void = () => {}): Promise<{ applied: string[] }> {
  return await withClient(ownerUrl, async (client) => {
    await client.query("SELECT pg_advisory_lock($1)", [lockKey]);
    await createRoles(client);
    await joinOwner(client);
    await client.query("CREATE SCHEMA IF NOT EXISTS cardex AUTHORIZATION cardex_owner");
    await client.query("SET ROLE cardex_owner");
    await client.query("SET search_path = cardex");
    const applied: string[] = [];
    for (const { version, name } of await pending(client)) {
      await inTransaction(client, () => postgratorOf(client).migrate(String(version)), name);
      applied.push(name);
      log(`migration ${name} done`);
    }
    return { applied };
  });
}

/** Names of the migrations that have not run, in order; for `cardex doctor` and for the start of a server. */
export async function pendingMigrations(url: string): Promise<string[]> {
  return await withClient(url, async (client) => (await pending(client)).map((migration) => migration.name));
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: "cardex-migrate", connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Roles belong to the cluster, an advisory lock to one database: a role that another migration makes meanwhile is as good. */
async function createRoles(client: pg.Client): Promise<void> {
  for (const role of databaseRoles) {
    const { rowCount } = await client.query("SELECT FROM pg_roles WHERE rolname = $1", [role]);
    if (rowCount !== 0) continue;
    try {
      await client.query(`CREATE ROLE ${role} NOLOGIN`);
    } catch (error) {
      const code = sqlState(error);
      if (code === "42710" || code === "23505") continue;
      if (code === "42501") {
        throw new MigrationError(
          `the database login may not create the role ${role}: give it CREATEROLE, or let an administrator create ${databaseRoles.join(", ")} (NOLOGIN)`,
          { cause: error },
        );
      }
      throw error;
    }
  }
}

/** A superuser may act as the owner; one who made the role with CREATEROLE may allow it to itself (PostgreSQL 16 and newer). */
async function joinOwner(client: pg.Client): Promise<void> {
  try {
    await client.query("SET ROLE cardex_owner");
    await client.query("RESET ROLE");
  } catch (error) {
    if (sqlState(error) !== "42501") throw error;
    try {
      await client.query("GRANT cardex_owner TO CURRENT_USER");
    } catch (refusal) {
      throw new MigrationError("the database login may not act as cardex_owner: GRANT cardex_owner TO it", { cause: refusal });
    }
  }
}

/** Postgrator notes a migration in a statement of its own; one transaction around both makes it happen wholly or not at all. */
async function inTransaction(client: pg.Client, work: () => Promise<unknown>, name: string): Promise<void> {
  await client.query("BEGIN");
  try {
    await work();
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw new MigrationError(`migration ${name} failed: ${error instanceof Error ? error.message : "unknown error"}`, { cause: error });
  }
}

async function pending(client: pg.Client): Promise<{ version: number; name: string }[]> {
  const postgrator = postgratorOf(client);
  const current = await postgrator.getDatabaseVersion();
  const migrations = await postgrator.getMigrations();
  return migrations
    .filter((migration) => migration.action === "do" && migration.version > current)
    .toSorted((a, b) => a.version - b.version)
    .map(({ version, name }) => ({ version, name: `${String(version).padStart(4, "0")} ${name}` }));
}

function postgratorOf(client: pg.Client): Postgrator {
  return new Postgrator({
    driver: "pg",
    schemaTable: "schemaversion",
    currentSchema: "cardex",
    migrationPattern: `${literally(fileURLToPath(new URL("migrations", import.meta.url)))}/*.do.*.sql`,
    newline: "LF",
    execQuery: (query) => client.query(query),
  });
}

/** A path as a glob pattern that matches itself only. */
function literally(path: string): string {
  return path.replaceAll(/[?*()[\]]/g, "[$&]");
}

function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}
