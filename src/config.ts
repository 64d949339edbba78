import { readFileSync } from "node:fs";
import { z } from "zod";

const port = z.number().int().min(0).max(65535);
const ms = (fallback: number, text: string) => z.number().int().min(1).max(86_400_000).default(fallback).describe(text);
const count = (fallback: number, text: string, most = 10_000_000) => z.number().int().min(1).max(most).default(fallback).describe(text);

/** Every limit has a name, a unit (in the name, or a count) and a default. README's tables are checked against this. */
const limits = z
  .strictObject({
    messageSize_bytes: count(1_048_576, "size of one request message", 4_194_304),
    callsInFlight: count(2048, "calls under way in one process; one more is refused"),
    callsInFlightPerPrincipal: count(1024, "calls under way for one principal in one process"),
    itemsInFlightPerPrincipal: count(8000, "items of batches under way for one principal in one process; one batch always goes"),
    infrastructureStreams: count(64, "streams of health and reflection under way in one process", 10_000),
    connections: count(1024, "connections to one process"),
    callDeadline_ms: ms(10_000, "time that a call gets when its caller sets no deadline, and at most"),
    exportDeadline_ms: ms(3_600_000, "the same for ExportEntries"),
    batchItems: count(1000, "items of one batch", 5000),
    pageSize: count(1000, "entries of one page", 1000),
    auditReads: count(16, "calls of ListEntries under way in one process", 10_000),
    auditScan: count(20_000, "entries that one page of ListEntries looks through; the next page goes on behind them"),
    exports: count(8, "calls of ExportEntries under way in one process", 10_000),
    decisionCache: count(100_000, "access decisions kept"),
    hsmQueue: count(65_536, "HSM operations waiting"),
    lookupQueue: count(65_536, "database lookups waiting"),
    writerQueue: count(8192, "calls waiting for their commit"),
    writerBatch: count(4000, "items in one commit; a single call may have more"),
    tokenizationsPerMaskedPan: count(100, "tokenizations by one principal that share BIN and last four, an hour, in one process", 65_534),
    principalsWatched: count(256, "principals whose tokenizations are counted in one hour, in 2 MiB of memory each; one more is refused", 100_000),
    handshakesRefusedTracked: count(1000, "sources of refused handshakes and calls that are summed a second; the rest in one sum"),
    requestIdKept_hours: count(24, "time that a request_id is remembered", 168),
    drain_ms: ms(10_000, "time for calls under way when the server stops"),
    handshake_ms: ms(10_000, "time for a TLS handshake"),
  })
  .prefault({});

const schema = z.strictObject({
  profile: z.enum(["development", "production"]).default("production").describe("development allows SoftHSM and the development CA"),
  listen: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").describe("address of the gRPC port"),
      port: port.default(7443).describe("gRPC port; mTLS, TLS 1.3"),
    })
    .prefault({}),
  probe: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").describe("address of the HTTP port for probes and metrics"),
      port: port.default(7480).describe("HTTP port: /livez, /readyz, /metrics; no certificate"),
    })
    .prefault({}),
  tls: z.strictObject({
    certFile: z.string().min(1).describe("PEM: the server's certificate, then its intermediates"),
    keyFile: z.string().min(1).describe("PEM: the server's private key"),
    clientCaFile: z.string().min(1).describe("PEM: the CAs that issue client certificates"),
    crlFile: z.string().min(1).optional().describe("PEM: revocation lists of these CAs"),
    trustDomain: z
      .string()
      .regex(/^[a-z0-9._-]{1,255}$/, "must be a SPIFFE trust domain: a-z, 0-9, '.', '_', '-'")
      .describe("SPIFFE trust domain of the clients"),
  }),
  database: z.strictObject({
    url: z.string().startsWith("postgres").describe("PostgreSQL, as the service role"),
    role: z
      .string()
      .regex(/^[a-z_][a-z0-9_]{0,62}$/)
      .optional()
      .describe("role to take after login, where the login role is another"),
    pool: count(6, "connections for lookups, besides the writers", 100),
    auditPool: count(2, "connections for reading the audit log, so that it never keeps lookups waiting", 100),
    connect_ms: ms(3000, "time to connect"),
    statement_ms: ms(5000, "time of one statement"),
  }),
  hsm: z.strictObject({
    provider: z.string().min(1).default("softhsm2").describe("provider profile"),
    library: z.string().min(1).describe("path of the PKCS#11 library"),
    tokenLabel: z.string().min(1).max(32).describe("label of the token"),
    pinFile: z.string().min(1).optional().describe("file that holds the user PIN, mode 0600"),
    pinDescriptor: z.number().int().min(3).optional().describe("open file descriptor to read the user PIN from"),
    softhsmConf: z.string().min(1).optional().describe("SOFTHSM2_CONF for the library"),
    lanes: z.number().int().min(1).max(64).default(2).describe("worker threads that call the HSM"),
    call_ms: ms(5000, "time of one group of HSM operations; then the process is restarted"),
  }),
  cards: z
    .strictObject({
      indexCodeGrace_days: z.number().int().min(0).max(90).default(30).describe("time that an old index code goes on answering"),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info").describe("least level that is logged"),
    })
    .prefault({}),
  limits,
});

export type Config = Readonly<z.infer<typeof schema>>;
export type Limits = Config["limits"];

/** A configuration that can't be used: `message` names each field, what was wrong, and where it stands. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Validates and freezes. @throws ConfigError */
export function parseConfig(input: unknown, source: string): Config {
  const result = schema.safeParse(input);
  if (result.success) return deepFreeze(result.data);
  const lines = result.error.issues.map((issue) => `  ${issue.path.join(".") || "(top)"}: ${issue.message}`);
  throw new ConfigError(`configuration ${source} is not valid:\n${lines.join("\n")}`);
}

/**
 * Reads the JSON file. `CARDEX_DATABASE_URL` and `CARDEX_LOG_LEVEL` stand above it.
 * @throws ConfigError
 */
export function readConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(`configuration ${file} can't be read: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ConfigError(`configuration ${file} is not JSON`, { cause: error });
  }
  return parseConfig(withEnvironment(value), file);
}

/** The environment, read here and nowhere else. */
export const environment = {
  configFile: (): string | undefined => process.env["CARDEX_CONFIG"],
  databaseUrl: (): string | undefined => process.env["CARDEX_DATABASE_URL"] || undefined,
  logLevel: (): string | undefined => process.env["CARDEX_LOG_LEVEL"] || undefined,
  get: (name: string): string | undefined => process.env[name],
};

function withEnvironment(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const config = { ...(value as Record<string, unknown>) };
  const url = environment.databaseUrl();
  if (url !== undefined) config["database"] = { ...(config["database"] as object), url };
  const level = environment.logLevel();
  if (level !== undefined) config["log"] = { ...(config["log"] as object), level };
  return config;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}

/** One row of the configuration table. */
export interface ConfigRow {
  readonly path: string;
  readonly fallback: string;
  readonly text: string;
}

/** The configuration table, from the schema itself; README shows it, and a test holds them together. */
export function configTable(): ConfigRow[] {
  const rows: ConfigRow[] = [];
  const walk = (node: JsonSchema, path: string): void => {
    for (const [key, child] of Object.entries(node.properties ?? {})) {
      const at = path === "" ? key : `${path}.${key}`;
      if (child.properties === undefined) {
        rows.push({
          path: at,
          fallback: child.default === undefined ? ((node.required ?? []).includes(key) ? "required" : "none") : String(child.default),
          text: child.description ?? "",
        });
      } else walk(child, at);
    }
  };
  walk(z.toJSONSchema(schema, { io: "input" }) as JsonSchema, "");
  return rows;
}

interface JsonSchema {
  readonly properties?: Record<string, JsonSchema>;
  readonly required?: readonly string[];
  readonly default?: unknown;
  readonly description?: string;
}
