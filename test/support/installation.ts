import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CardexClient, type ClientOptions } from "../../src/client/index.js";
import { readAuthority } from "../../src/dev/certificate-files.js";
import { issueCertificate, type CertificateRequest, type KeyedCertificate } from "../../src/dev/certificates.js";
import { demoTenant, furnish, type ConfigOverrides, type InstallationPlan, type Role } from "../../src/dev/installation.js";
import { freePort } from "../../src/dev/postgres.js";
import { ServerProcess, type ServerPlace } from "../../src/dev/server-process.js";
import { layoutOf, makeFolders, type StateLayout } from "../../src/dev/state.js";
import { freshDatabase, type FreshDatabase } from "./database.js";

export interface InstallationOptions {
  /** Server processes on the same database and token. Default 1. */
  readonly servers?: 1 | 2;
  /** Default: "demo" alone. Each tenant has a client for every role. */
  readonly tenants?: readonly string[];
  /** Sections of the servers' configuration. */
  readonly overrides?: ConfigOverrides;
  /** Further environment of the servers. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the servers find the database instead of at this URL: through a proxy. */
  readonly databaseThrough?: (url: string) => Promise<string>;
  /** An empty database, not migrated; goes with the installation. Default: one of its own in the cluster of this run. */
  readonly database?: FreshDatabase;
}

/** One server process of an installation. */
export interface TestServer {
  /** gRPC, on 127.0.0.1. */
  readonly port: number;
  readonly probePort: number;
  readonly configFile: string;
  readonly logFile: string;
  /** The process as it runs now. */
  process: ServerProcess;
}

/** Whom a client is. */
export interface ClientChoice extends Partial<ClientOptions> {
  /** Number of the server, from 0. Default 0. */
  readonly server?: number;
  /** Default: the first. */
  readonly tenant?: string;
}

/** A whole vault: servers as processes, a database and a SoftHSM token of its own. */
export class TestInstallation {
  readonly layout: StateLayout;
  readonly database: FreshDatabase;
  readonly servers: readonly TestServer[];
  readonly #tenants: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #clients: CardexClient[] = [];

  constructor(layout: StateLayout, database: FreshDatabase, servers: readonly TestServer[], options: Required<Pick<InstallationOptions, "tenants" | "env">>) {
    this.layout = layout;
    this.database = database;
    this.servers = servers;
    this.#tenants = options.tenants;
    this.#env = options.env;
  }

  server(i = 0): TestServer {
    const server = this.servers[i];
    if (server === undefined) throw new Error(`there is no server ${i}`);
    return server;
  }

  /** A client with the certificate of a role; closed with the installation. */
  async client(role: Role, choice: ClientChoice = {}): Promise<CardexClient> {
    const { tenant = this.#tenants[0], server, ...options } = choice;
    return await this.clientWith(join(this.layout.certificates, tenant === this.#tenants[0] ? role : `${tenant}-${role}`), { server: server ?? 0, ...options });
  }

  /** A client with any certificate: the path of the pair without .pem and .key, or the pair itself. */
  async clientWith(pair: string | KeyedCertificate, choice: Omit<ClientChoice, "tenant"> = {}): Promise<CardexClient> {
    const { server, ...options } = choice;
    const client = await CardexClient.connect({
      address: `127.0.0.1:${this.server(server).port}`,
      serverName: "localhost",
      ca: join(this.layout.certificates, "ca.pem"),
      ...(typeof pair === "string" ? { cert: `${pair}.pem`, key: `${pair}.key` } : { cert: pair.certPem, key: pair.keyPem }),
      ...options,
    });
    this.#clients.push(client);
    return client;
  }

  /** A certificate of the CA that the servers trust. */
  async issue(request: CertificateRequest): Promise<KeyedCertificate> {
    const authority = await readAuthority(this.layout.certificates);
    if (authority === undefined) throw new Error("the installation has no CA");
    return await issueCertificate(authority, request);
  }

  /** Ends a server with kill -9. */
  async kill9(i = 0): Promise<void> {
    const { process } = this.server(i);
    process.kill();
    await process.ended;
  }

  /** Starts a server that has ended, or ends it in order first. */
  async restart(i = 0): Promise<void> {
    const server = this.server(i);
    if (server.process.running) await server.process.stop();
    server.process = await ServerProcess.start(placeOf(server, this.#env));
    await server.process.ready();
  }

  /** Ends everything and removes the folder and the database. */
  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await Promise.all(this.servers.map(async ({ process }) => (process.running ? await process.stop() : undefined)));
    await this.database.close();
    await rm(this.layout.folder, { recursive: true, force: true });
  }
}

/** Sets a vault up as `npm start` does, in a temporary folder, on the PostgreSQL of this run. */
export async function startInstallation(options: InstallationOptions = {}): Promise<TestInstallation> {
  const { tenants = [demoTenant], env = {} } = options;
  const folder = await mkdtemp(join(tmpdir(), "cardex-vault-"));
  await chmod(folder, 0o711);
  const layout = layoutOf(folder);
  await makeFolders(layout);
  const database = options.database ?? (await freshDatabase({ migrated: false }));
  const servers: TestServer[] = [];
  try {
    const url = options.databaseThrough === undefined ? database.service.url : await options.databaseThrough(database.service.url);
    for (let i = 0; i < (options.servers ?? 1); i += 1) servers.push(await startServer(i, layout, database, { tenants, env, url, overrides: options.overrides ?? {} }));
  } catch (error) {
    for (const { process } of servers) process.kill();
    await database.close();
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return new TestInstallation(layout, database, servers, { tenants, env });
}

async function startServer(
  i: number,
  common: StateLayout,
  database: FreshDatabase,
  options: Required<Pick<InstallationOptions, "tenants" | "env" | "overrides">> & { readonly url: string },
): Promise<TestServer> {
  const at = (name: string): string => join(common.folder, name);
  const layout = { ...common, configFile: at(`cardex-${i}.json`), clientFile: at(`client-${i}.json`), serverLog: at(`logs/server-${i}.log`) };
  const ports = { grpc: await freePort(), probe: await freePort() };
  const { url } = options;
  const { role } = database.service;
  const plan: InstallationPlan = {
    layout,
    ports,
    ownerUrl: database.ownerUrl,
    serverLogin: () => Promise.resolve(role === undefined ? { url } : { url, role }),
    tenants: options.tenants,
    overrides: options.overrides,
    announce: () => {},
  };
  await furnish(plan);
  const server = { port: ports.grpc, probePort: ports.probe, configFile: layout.configFile, logFile: layout.serverLog };
  const process = await ServerProcess.start(placeOf(server, options.env));
  try {
    await process.ready();
  } catch (error) {
    process.kill();
    throw error;
  }
  return { ...server, process };
}

function placeOf(server: Pick<TestServer, "configFile" | "logFile" | "probePort">, env: Readonly<Record<string, string>>): ServerPlace {
  return { configFile: server.configFile, logFile: server.logFile, probePort: server.probePort, env };
}
