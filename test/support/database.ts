import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import type { Config } from "../../src/config.js";
import { migrate } from "../../src/store/migrate.js";

/** A database of one's own in the cluster of this run. */
export interface FreshDatabase {
  readonly name: string;
  /** Superuser, connected to this database. */
  readonly adminUrl: string;
  /** The login that migrates: may act as cardex_owner. */
  readonly ownerUrl: string;
  /** As a server connects: a login that is a member of cardex_service and nothing else. */
  readonly service: Config["database"];
  /** A login that is a member of cardex_auditor and nothing else. */
  readonly auditorUrl: string;
  /** Drops it, whoever is still connected. */
  close(): Promise<void>;
}

/** Makes a new database and, unless told otherwise, migrates it. */
export async function freshDatabase(options: { migrated?: boolean } = {}): Promise<FreshDatabase> {
  const cluster = inject("cluster");
  const name = `cardex_test_${randomBytes(8).toString("hex")}`;
  await onCluster(cluster.adminUrl, `CREATE DATABASE ${name}`);
  const adminUrl = urlOf(cluster.adminUrl, name);
  if (options.migrated !== false) await migrate(adminUrl);
  return {
    name,
    adminUrl,
    ownerUrl: adminUrl,
    service: {
      url: urlOf(cluster.adminUrl, name, cluster.serviceLogin, cluster.password),
      role: "cardex_service",
      pool: 6,
      connect_ms: 3000,
      statement_ms: 5000,
    },
    auditorUrl: urlOf(cluster.adminUrl, name, cluster.auditorLogin, cluster.password),
    close: () => onCluster(cluster.adminUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}

function urlOf(url: string, database: string, user?: string, password?: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  if (user !== undefined) changed.username = user;
  if (password !== undefined) changed.password = password;
  return changed.href;
}

async function onCluster(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
