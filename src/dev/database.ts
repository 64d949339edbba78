import pg from "pg";
import { Obstacle } from "./obstacle.js";
import type { RunningPostgres } from "./postgres.js";
import { ensureSecret } from "./secret-file.js";

const database = "cardex";
const serverLogin = "cardex_server";

/** URL of the development database for who migrates and administers; the database is made if it is not there. */
export async function ensureDatabase(postgres: RunningPostgres): Promise<string> {
  await asAdmin(postgres.adminUrl, async (client) => {
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [database]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${database}`);
  });
  const url = new URL(postgres.adminUrl);
  url.pathname = `/${database}`;
  return url.href;
}

/**
 * The server's login: a member of cardex_service and nothing else, by unix socket where there is one.
 * @param passwordFile made if it is not there
 */
export async function ensureServerLogin(postgres: RunningPostgres, passwordFile: string): Promise<{ url: string; role: string }> {
  const password = (await ensureSecret(passwordFile)).open();
  await asAdmin(postgres.adminUrl, async (client) => {
    const { rowCount } = await client.query("SELECT FROM pg_roles WHERE rolname = $1", [serverLogin]);
    if (rowCount === 0) await client.query(`CREATE ROLE ${serverLogin} LOGIN IN ROLE cardex_service`);
    await client.query(`ALTER ROLE ${serverLogin} PASSWORD ${client.escapeLiteral(password)}`);
  });
  const url = new URL(postgres.adminUrl);
  url.username = serverLogin;
  url.password = password;
  url.pathname = `/${database}`;
  if (postgres.socketDirectory !== undefined) {
    url.hostname = "localhost";
    url.searchParams.set("host", postgres.socketDirectory);
  }
  return { url: url.href, role: "cardex_service" };
}

/** @throws Obstacle if a database that the user named can't be used; never repeats the URL, which may hold a password */
export async function requireDatabase(url: string, name: string): Promise<void> {
  try {
    await asAdmin(url, async (client) => void (await client.query("SELECT")));
  } catch (error) {
    const causes = error instanceof AggregateError ? error.errors : [error];
    const said = causes.map((each) => (each instanceof Error ? each.message : "no answer")).join("; ");
    throw new Obstacle(`${name} names a PostgreSQL that can't be used (${said}): check host, port, database and login, then start again`, { cause: error });
  }
}

async function asAdmin(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
