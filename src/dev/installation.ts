import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { createSoftHsmToken, findSoftHsmLibrary, type SoftHsmPlace } from "../../hsm/softhsm.js";
import { applyPolicy, defaultPolicy, grantRole, readPolicy } from "../access/administration.js";
import { roleNames } from "../client/profile.js";
import type { Config } from "../config.js";
import { clearRefusal } from "../keys/login-guard.js";
import { Database } from "../store/database.js";
import { listRegisteredKeys } from "../store/keys.js";
import { migrate } from "../store/migrate.js";
import { ensureCertificates, type ClientIdentity } from "./certificate-files.js";
import { spiffeId } from "./certificates.js";
import { writeWhole } from "./files.js";
import { makeKeys } from "./make-keys.js";
import { asObstacle, Obstacle } from "./obstacle.js";
import { ensureSecret } from "./secret-file.js";
import type { StateLayout } from "./state.js";

/** Trust domain of development certificates. */
export const trustDomain = "cardex.dev";

/** Tenant of the development installation. */
export const demoTenant = "demo";

/** The development installation has one principal for each role, of the same name. */
export const roles = roleNames;
export type Role = (typeof roles)[number];

const tokenLabel = "cardex development";

/** The top-level sections of cardex.json that an installation may change, section by section. */
export type ConfigOverrides = { readonly [K in keyof Config]?: Config[K] extends object ? Partial<Config[K]> : Config[K] };

export interface InstallationPlan {
  readonly layout: StateLayout;
  /** gRPC and probe port; 0: any. */
  readonly ports: { readonly grpc: number; readonly probe: number };
  /** A login that may act as cardex_owner and may make roles if they are missing. */
  readonly ownerUrl: string;
  /** How the server logs in, once the database is migrated. */
  readonly serverLogin: () => Promise<{ readonly url: string; readonly role?: string }>;
  /** Tenants; each gets a client for every role. Files of the first one's clients are named by role, of others by tenant and role. */
  readonly tenants: readonly string[];
  readonly overrides?: ConfigOverrides;
  /** Forgets that the token refused a PIN. */
  readonly clearPinRefusal?: boolean;
  readonly announce: (line: string) => void;
}

/**
 * Makes, or completes, all that a server needs but PostgreSQL itself: certificates, HSM token and PINs, schema, configuration,
 * keys, tenants, policy. What is there stays as it is.
 * @throws Obstacle
 */
export async function furnish(plan: InstallationPlan): Promise<void> {
  const { layout, announce } = plan;
  try {
    const clients = plan.tenants.flatMap((tenant, i) => roles.map((name) => ({ file: i === 0 ? name : `${tenant}-${name}`, tenant, name })));
    const renewed = await ensureCertificates(layout.certificates, { trustDomain, clients });
    if (renewed.length > 0) announce(`certificates made: ${renewed.join(", ")}`);
    const [token] = await Promise.all([ensureToken(layout, announce), migrate(plan.ownerUrl, announce)]);
    await writeWhole(layout.ownerUrl, `${plan.ownerUrl}\n`, 0o600);
    if (plan.clearPinRefusal === true) await asOwner(plan.ownerUrl, (database) => clearRefusal(database, token.serial));
    await writeConfig(plan, token, await plan.serverLogin());
    await ensureKeys(plan);
    await ensurePolicy(plan, clients);
    await writeClientFile(plan, clients);
  } catch (error) {
    if (error instanceof Error && ["HsmError", "MigrationError", "Failure"].includes(error.name)) throw new Obstacle(error.message, { cause: error });
    throw asObstacle(error, "setting up the installation");
  }
}

async function ensureToken(layout: StateLayout, announce: (line: string) => void): Promise<SoftHsmPlace> {
  const library = findSoftHsmLibrary();
  if (existsSync(layout.hsm) && !existsSync(layout.userPin)) {
    throw new Obstacle(
      `${layout.userPin} is missing, and the keys of ${layout.hsm} can't be used without it: put it back from a backup, or begin anew by removing ${layout.folder}`,
    );
  }
  const pin = await ensureSecret(layout.userPin);
  const soPin = await ensureSecret(layout.securityOfficerPin);
  const place = await createSoftHsmToken({ directory: layout.hsm, label: tokenLabel, pin, soPin, library });
  if (place.created) announce(`SoftHSM token made in ${layout.hsm}`);
  return place;
}

async function writeConfig(plan: InstallationPlan, token: SoftHsmPlace, login: { url: string; role?: string }): Promise<void> {
  const { layout, ports, overrides = {} } = plan;
  const sections: Record<string, unknown> = {
    profile: "development",
    listen: { host: "127.0.0.1", port: ports.grpc },
    probe: { host: "127.0.0.1", port: ports.probe },
    tls: {
      certFile: join(layout.certificates, "server.pem"),
      keyFile: join(layout.certificates, "server.key"),
      clientCaFile: join(layout.certificates, "ca.pem"),
      trustDomain,
    },
    database: login,
    hsm: { provider: "softhsm2", library: token.library, tokenLabel, pinFile: layout.userPin, softhsmConf: token.softhsmConf, lanes: 1 },
  };
  for (const [name, value] of Object.entries(overrides)) {
    const section = sections[name];
    sections[name] = typeof section === "object" && typeof value === "object" ? { ...section, ...value } : value;
  }
  // The database's password is in it.
  await writeWhole(layout.configFile, `${JSON.stringify(sections, undefined, 2)}\n`, 0o600);
}

async function ensureKeys(plan: InstallationPlan): Promise<void> {
  const present = await asOwner(plan.ownerUrl, (database) => listRegisteredKeys(database));
  const has = (purpose: string, tenant: string | null): boolean => present.some((key) => key.purpose === purpose && key.tenant === tenant);
  if (["fingerprint", "request", "audit"].every((purpose) => has(purpose, null)) && plan.tenants.every((tenant) => has("pan", tenant))) return;
  const made = await makeKeys({ configFile: plan.layout.configFile, ownerUrl: plan.ownerUrl, tenants: plan.tenants });
  plan.announce(`keys made in the HSM: ${made.join(", ")}`);
}

async function ensurePolicy(plan: InstallationPlan, clients: readonly ClientIdentity[]): Promise<void> {
  await asOwner(plan.ownerUrl, async (database) => {
    const policy = await readPolicy(database);
    if (!policy.rows.some((row) => row.ptype === "p")) {
      await applyPolicy(database, await defaultPolicy());
      plan.announce("default policy applied");
    }
    // A role that somebody took away stays away: only who has none yet, and no rule of its own, is new.
    const known = new Set(policy.rows.map((row) => row.values[0]));
    for (const { tenant, name } of clients) {
      const principal = spiffeId(trustDomain, tenant, name);
      if (!known.has(principal)) await grantRole(database, principal, tenant, name);
    }
  });
}

async function asOwner<T>(ownerUrl: string, work: (database: Database) => Promise<T>): Promise<T> {
  const database = new Database({ url: ownerUrl, role: "cardex_owner", pool: 1, auditPool: 1, connect_ms: 10_000, statement_ms: 30_000 });
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

async function writeClientFile(plan: InstallationPlan, clients: readonly ClientIdentity[]): Promise<void> {
  const { layout, ports } = plan;
  const folder = relative(layout.folder, layout.certificates);
  const identities = Object.fromEntries(clients.map(({ file }) => [file, { cert: join(folder, `${file}.pem`), key: join(folder, `${file}.key`) }]));
  const content = { server: `127.0.0.1:${ports.grpc}`, ca: join(folder, "ca.pem"), identities };
  await writeWhole(layout.clientFile, `${JSON.stringify(content, undefined, 2)}\n`, 0o644);
}
