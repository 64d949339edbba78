import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startPostgres, type RunningPostgres } from "../../src/dev/postgres.js";

/** What a test file may know of a cluster. */
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

/** Makes the roles and logins that tests use. */
export async function prepareCluster(adminUrl: string, dataDirectory: string | undefined): Promise<TestCluster> {
  const run = randomBytes(4).toString("hex");
  const cluster: TestCluster = {
    adminUrl,
    serviceLogin: `cardex_test_service_${run}`,
    auditorLogin: `cardex_test_auditor_${run}`,
    password: randomBytes(18).toString("base64url"),
    dataDirectory,
  };
  await asAdmin(adminUrl, [
    ...["cardex_owner", "cardex_service", "cardex_auditor"].map(
      (role) => `DO $$ BEGIN CREATE ROLE ${role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    ),
    `CREATE ROLE ${cluster.serviceLogin} LOGIN PASSWORD '${cluster.password}' IN ROLE cardex_service`,
    `CREATE ROLE ${cluster.auditorLogin} LOGIN PASSWORD '${cluster.password}' IN ROLE cardex_auditor`,
  ]);
  return cluster;
}

/** Runs statements one by one on a connection of their own. */
export async function asAdmin(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

/** A cluster that a test has for itself: to be stopped, killed, or searched. */
export class OwnCluster {
  readonly cluster: TestCluster;
  readonly #folder: string;
  readonly #settings: Readonly<Record<string, string>>;
  #postgres: RunningPostgres;

  private constructor(folder: string, postgres: RunningPostgres, cluster: TestCluster, settings: Readonly<Record<string, string>>) {
    this.#folder = folder;
    this.#postgres = postgres;
    this.cluster = cluster;
    this.#settings = settings;
  }

  static async start(settings: Readonly<Record<string, string>> = {}, announce: (line: string) => void = () => {}): Promise<OwnCluster> {
    const folder = await mkdtemp(join(tmpdir(), "cardex-cluster-"));
    // As root PostgreSQL runs as another user, who has to get in.
    await chmod(folder, 0o711);
    try {
      const postgres = await startPostgres({ directory: folder, settings, announce });
      return new OwnCluster(folder, postgres, await prepareCluster(postgres.adminUrl, postgres.dataDirectory), settings);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Log of the cluster. */
  get logFile(): string {
    return this.#postgres.logFile;
  }

  /** Fast shutdown. */
  async halt(): Promise<void> {
    await this.#postgres.stop();
  }

  /** Starts it again, where it was. */
  async resume(): Promise<void> {
    this.#postgres = await startPostgres({ directory: this.#folder, port: this.#postgres.port, settings: this.#settings });
  }

  /** Ends it and removes its files. */
  async close(): Promise<void> {
    await this.#postgres.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
