import type { Client } from "pg";
import type { Principal } from "../call.js";
import { clock } from "../clock.js";
import type { Config } from "../config.js";
import { Failure } from "../failure.js";
import type { Logger } from "../log.js";
import { Database, endWithin } from "../store/database.js";
import { policyChannel, type PolicyRow, selectPolicy, selectPolicyVersion } from "../store/policy.js";
import { Decisions } from "./decisions.js";
import { compileRules, noPurpose, noScope } from "./model.js";
import { purposeNames } from "./rules.js";

/** How often the version is read where no notice came, and how long after a lost connection LISTEN is tried again, milliseconds. */
const poll_ms = 250;

/** How long after a LISTEN that was refused (a standby does so) it is tried again, milliseconds. */
const refused_ms = 1000;

/** One call as the policy sees it. */
export interface AccessRequest {
  readonly principal: Principal;
  /** Service name without its package. */
  readonly service: string;
  readonly method: string;
  /** Purpose name without its prefix; undefined for calls that have none. */
  readonly purpose: string | undefined;
}

/** Everything that comes of one version of the rules; replaced as a whole. */
interface Loaded {
  readonly version: number;
  readonly decisions: Decisions;
  readonly principals: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * The policy as this server has it. Follows the database by LISTEN and, in case a notice is lost, by asking for the version; while the
 * database is away the last policy stays in use (the transaction that commits a call's entry compares versions anyhow).
 */
export class Policy {
  readonly #database: Database;
  readonly #config: Config["database"];
  readonly #decisions_max: number;
  readonly #log: Logger;
  #loaded: Loaded = { version: 0, decisions: new Decisions(1, () => false), principals: new Map() };
  #loading: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #following: Promise<void> | undefined;
  #listener: Client | undefined;
  /** When LISTEN may be tried, by the monotonic clock. */
  #listenFrom_ms = 0;
  #away = false;
  #closed = false;

  private constructor(database: Database, config: Config["database"], limits: { decisionCache: number }, log: Logger) {
    this.#database = database;
    this.#config = config;
    this.#decisions_max = limits.decisionCache;
    this.#log = log;
  }

  /**
   * Loads the policy and follows it until `close`.
   * @param config for the connection that listens
   * @throws Failure STORE_UNAVAILABLE
   */
  static async open(database: Database, config: Config["database"], limits: { decisionCache: number }, log: Logger): Promise<Policy> {
    const policy = new Policy(database, config, limits, log);
    await policy.#load();
    policy.#timer = setInterval(() => policy.#poll(), poll_ms).unref();
    policy.#poll();
    return policy;
  }

  /** Version of the rules in use. */
  get version(): number {
    return this.#loaded.version;
  }

  /** Whether a rule allows it and none denies it. */
  decide({ principal, service, method, purpose }: AccessRequest): boolean {
    return this.#ask(principal, service, method, purpose ?? noPurpose);
  }

  /** Whether the call would be allowed for some purpose. */
  decideForAnyPurpose(request: Omit<AccessRequest, "purpose">): boolean {
    return purposeNames.some((purpose) => this.decide({ ...request, purpose }));
  }

  /** Whether any role or rule names this principal. */
  knows(principal: Principal): boolean {
    return this.#loaded.principals.get(principal.tenant)?.has(principal.id) ?? false;
  }

  /** Whether any principal of this tenant is known. */
  knowsTenant(tenant: string): boolean {
    return this.#loaded.principals.has(tenant);
  }

  /** What the principal may see of a card outside Detokenize: the only place where this is decided. */
  view(principal: Principal): "nothing" | "masked" {
    return this.#ask(principal, "view", "masked", noPurpose) ? "masked" : "nothing";
  }

  /** Whether the principal may detokenize tokens of this scope for this purpose; "" for tokens without a scope. */
  mayUseScope(principal: Principal, scope: string, purpose: string | undefined): boolean {
    return this.#ask(principal, "scope", scope === "" ? noScope : scope, purpose ?? noPurpose);
  }

  /**
   * Makes sure that the rules in use are at least of this version, which was read from the database. All who wait share one load.
   * @throws Failure STORE_UNAVAILABLE
   */
  async refresh(atLeastVersion: number): Promise<void> {
    if (this.version >= atLeastVersion) return;
    await this.#load();
    // The load that was shared may have begun before the version was written; one that begins now has not.
    if (this.version < atLeastVersion) await this.#load();
    if (this.version < atLeastVersion) throw new Failure("STORE_UNAVAILABLE", "the policy is not available; try again", { retryAfter_ms: 1000, inner: "policy behind" });
  }

  /** Stops following. A PostgreSQL that hangs does not hold it up. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#following;
    if (this.#listener !== undefined) await endWithin(this.#listener, this.#config.connect_ms);
  }

  #ask(principal: Principal, object: string, action: string, purpose: string): boolean {
    return this.#loaded.decisions.ask({ subject: principal.id, tenant: principal.tenant, object, action, purpose });
  }

  #load(): Promise<void> {
    this.#loading ??= this.#readAll().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #readAll(): Promise<void> {
    const { version, rows } = await selectPolicy(this.#database);
    // Not "newer": after a restore from a backup the version is smaller, and those are the rules.
    if (version === this.#loaded.version) return;
    const decide = await compileRules(rows);
    this.#loaded = { version, decisions: new Decisions(this.#decisions_max, decide), principals: principalsOf(rows) };
    this.#log.info({ version, rules: rows.length }, "policy loaded");
  }

  /** Never more than one at a time: a notice that comes meanwhile is made up for by the next poll. */
  #poll(): void {
    if (this.#following !== undefined || this.#closed) return;
    this.#following = this.#follow()
      .then(
        () => {
          // Between two tries of LISTEN the version is read, and no more.
          if (this.#listener === undefined) return;
          if (this.#away) this.#log.info("policy followed again");
          this.#away = false;
        },
        (error: unknown) => {
          if (!this.#away) this.#log.warn({ err: error, version: this.version }, "policy can't be followed; the last one stays in use");
          this.#away = true;
        },
      )
      .finally(() => {
        this.#following = undefined;
      });
  }

  async #follow(): Promise<void> {
    if ((await selectPolicyVersion(this.#database)) !== this.version) await this.#load();
    if (this.#listener === undefined && !this.#closed && clock.monotonic_ms() >= this.#listenFrom_ms) await this.#listen();
  }

  async #listen(): Promise<void> {
    const client = await Database.dedicated(this.#config, "cardex policy");
    const lost = (): void => {
      if (this.#listener === client) this.#listener = undefined;
    };
    client.on("error", lost);
    client.on("end", lost);
    client.on("notification", () => this.#poll());
    try {
      await client.query(`LISTEN ${policyChannel}`);
    } catch (error) {
      this.#listenFrom_ms = clock.monotonic_ms() + refused_ms;
      await endWithin(client, this.#config.connect_ms);
      throw error;
    }
    if (this.#closed) await endWithin(client, this.#config.connect_ms);
    else this.#listener = client;
  }
}

/** Principals by tenant: those with a role, and those that a rule names. */
function principalsOf(rows: readonly PolicyRow[]): Map<string, Set<string>> {
  const principals = new Map<string, Set<string>>();
  for (const { ptype, values } of rows) {
    const [id = ""] = values;
    const tenant = /^spiffe:\/\/[^/]+\/tenant\/([^/]+)\//.exec(id)?.[1];
    if (tenant === undefined || (ptype === "g" && values[2] !== tenant)) continue;
    const known = principals.get(tenant) ?? new Set<string>();
    principals.set(tenant, known.add(id));
  }
  return principals;
}
