import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { applyPolicy, defaultPolicy, grantRole, readPolicy } from "../../src/access/administration.js";
import { Policy } from "../../src/access/policy.js";
import { type Config, type Limits, parseConfig } from "../../src/config.js";
import { type CertificateRequest, issueCertificate, type KeyedCertificate, makeAuthority, makeRevocationList, spiffeId } from "../../src/dev/certificates.js";
import { openLog } from "../../src/log.js";
import { Metrics } from "../../src/metrics.js";
import type { ServiceHandlers } from "../../src/rpc/handler.js";
import { type RunningServer, served, startServer } from "../../src/rpc/server.js";
import { Database } from "../../src/store/database.js";
import { type FreshDatabase, freshDatabase } from "./database.js";
import { RecordingJournal } from "./recording-journal.js";

export const trustDomain = "cardex.test";

/** The real edge, with handlers of the test's own behind it. */
export interface TestEdge {
  readonly server: RunningServer;
  readonly config: Config;
  readonly journal: RecordingJournal;
  readonly metrics: Metrics;
  readonly policy: Policy;
  /** As the owner of the schema. */
  readonly owner: Database;
  readonly authority: KeyedCertificate;
  readonly alerts: string[];
  /** What each RPC does; replace them freely. */
  tokens: Replaceable<typeof TokenService>;
  audit: Replaceable<typeof AuditService>;
  issue(request: Partial<CertificateRequest>): Promise<KeyedCertificate>;
  /** A certificate of a principal of tenant acme with this role. */
  issueFor(role: string): Promise<KeyedCertificate>;
  revoke(serials: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Starts an edge on a free port of the loopback, over a database of its own. */
export async function startEdge(limits: Partial<Limits> = {}): Promise<TestEdge> {
  const folder = await mkdtemp(join(tmpdir(), "cardex-edge-"));
  const database: FreshDatabase = await freshDatabase();
  const owner = new Database({ ...database.service, url: database.ownerUrl, role: "cardex_owner" });
  const authority = await makeAuthority("edge test CA");
  const issue = (request: Partial<CertificateRequest>): Promise<KeyedCertificate> =>
    issueCertificate(authority, { name: "client", usage: "client", uris: [spiffeId(trustDomain, "acme", "nobody")], ...request });
  const config = parseConfig(
    {
      profile: "development",
      listen: { port: 0 },
      tls: {
        certFile: join(folder, "server.pem"),
        keyFile: join(folder, "server.key"),
        clientCaFile: join(folder, "ca.pem"),
        crlFile: join(folder, "crl.pem"),
        trustDomain,
      },
      database: { url: database.service.url, role: database.service.role },
      hsm: { library: "none", tokenLabel: "none" },
      limits,
    },
    "of the test",
  );
  const serverCertificate = await issueCertificate(authority, { name: "server", usage: "server", hosts: ["localhost"], addresses: ["127.0.0.1"] });
  await writeFile(config.tls.certFile, serverCertificate.certPem);
  await writeFile(config.tls.keyFile, serverCertificate.keyPem);
  await writeFile(config.tls.clientCaFile, authority.certPem);
  await writeFile(join(folder, "crl.pem"), await makeRevocationList(authority, []));
  await applyPolicy(owner, await defaultPolicy());

  const log = openLog("silent");
  const service = new Database(database.service);
  const policy = await Policy.open(service, database.service, config.limits, log);
  const journal = new RecordingJournal();
  const metrics = new Metrics();
  const alerts: string[] = [];
  const edge: TestEdge = {
    config,
    journal,
    metrics,
    policy,
    owner,
    authority,
    alerts,
    tokens: {},
    audit: {},
    issue,
    issueFor: async (role) => {
      const id = spiffeId(trustDomain, "acme", role);
      await grantRole(owner, id, "acme", role);
      await policy.refresh((await readPolicy(owner)).version);
      return await issue({ name: role, uris: [id] });
    },
    revoke: async (serials) => {
      await writeFile(join(folder, "crl.pem"), await makeRevocationList(authority, serials));
      await edge.server.reload();
    },
    server: await startServer({
      config,
      log,
      policy,
      journal,
      metrics,
      alert: (name) => alerts.push(name),
      services: [served(TokenService, replaceable(TokenService, () => edge.tokens)), served(AuditService, replaceable(AuditService, () => edge.audit))],
      // Tests ask for a reload themselves.
      reload_ms: 3_600_000,
    }),
    close: async () => {
      await edge.server.stop();
      await policy.close();
      await service.close();
      await owner.close();
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return edge;
}

type Replaceable<S extends Service> = { -readonly [K in keyof ServiceHandlers<S>]?: ServiceHandlers<S>[K] };

type Service = typeof TokenService | typeof AuditService;

/** Handlers that are looked up at each call, so that a test can replace them. */
function replaceable<S extends Service>(service: S, current: () => Replaceable<S>): ServiceHandlers<S> {
  const handlers = service.methods.map((method): [string, unknown] => [
    method.localName,
    (request: unknown, call: unknown) => {
      const handler: unknown = current()[method.localName as keyof S["method"]];
      if (typeof handler !== "function") throw new Error(`the test has no ${method.name}`);
      return (handler as (...values: unknown[]) => unknown)(request, call);
    },
  ]);
  return Object.fromEntries(handlers) as ServiceHandlers<S>;
}
