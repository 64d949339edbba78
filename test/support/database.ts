import { randomBytes } from "node:crypto";
import { inject } from "vitest";
import type { Config } from "../../src/config.js";
import { migrate } from "../../src/store/migrate.js";
import { asAdmin, type TestCluster } from "./cluster.js";

/** A database of one's own. */
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

/** Makes a new database, in the cluster of this run unless told otherwise, and migrates it unless told otherwise. */
export async function freshDatabase(options: { migrated?: boolean; cluster?: TestCluster } = {}): Promise<FreshDatabase> {
  const { cluster = inject("cluster") } = options;
  const name = `cardex_test_${randomBytes(8).toString("hex")}`;
  await asAdmin(cluster.adminUrl, [`CREATE DATABASE ${name}`]);
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
      auditPool: 2,
      connect_ms: 3000,
      statement_ms: 5000,
    },
    auditorUrl: urlOf(cluster.adminUrl, name, cluster.auditorLogin, cluster.password),
    close: () => asAdmin(cluster.adminUrl, [`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`]),
  };
}

function urlOf(url: string, database: string, user?: string, password?: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  if (user !== undefined) changed.username = user;
  if (password !== undefined) changed.password = password;
  return changed.href;
}
