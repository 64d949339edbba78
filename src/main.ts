import { hostname } from "node:os";
import { AuditService } from "../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../gen/cardex/v1/card_service_pb.js";
import { TokenService } from "../gen/cardex/v1/token_service_pb.js";
import { openHsm } from "../hsm/driver.js";
import { type Hsm, HsmError } from "../hsm/hsm.js";
import { hsmOptions } from "../hsm/options.js";
import { readPin } from "../hsm/pin.js";
import { RandomPool } from "../hsm/random-pool.js";
import { GuessLimit } from "./access/guess-limit.js";
import { ItemsInFlight } from "./access/in-flight.js";
import { Policy } from "./access/policy.js";
import { Alerts } from "./alert.js";
import { CommittedJournal } from "./audit/committed-journal.js";
import { CommittedWriter, type WriterObserver } from "./audit/committed-writer.js";
import { RefusalSums } from "./audit/refusal-sums.js";
import { CardIndex } from "./cards/card-index.js";
import { Institutions } from "./cards/institution.js";
import { type Config, ConfigError, readConfig } from "./config.js";
import { Failure } from "./failure.js";
import { startHousekeeping } from "./housekeeping.js";
import { KeyRing } from "./keys/key-ring.js";
import { StoredLoginGuard } from "./keys/login-guard.js";
import { type Logger, openLog } from "./log.js";
import { Metrics } from "./metrics.js";
import { auditService } from "./rpc/audit-service.js";
import { cardService } from "./rpc/card-service.js";
import { startProbe } from "./rpc/probe.js";
import { served, startServer } from "./rpc/server.js";
import { tokenService } from "./rpc/token-service.js";
import { ensurePartitions } from "./store/audit.js";
import { Database } from "./store/database.js";
import { Detokenizer } from "./vault/detokenize.js";
import { TokenRecords } from "./vault/token-records.js";
import { Tokenizer } from "./vault/tokenize.js";

/** Exit codes of a server. A supervisor restarts after `failed`, and leaves the others to an operator. */
export const serverExit = { stopped: 0, failed: 1, misconfigured: 78, pinRefused: 77 } as const;

/**
 * Runs a server until it is told to stop (SIGTERM, SIGINT, or the end of the channel to a parent process).
 * @returns the exit code, see `serverExit`
 */
export async function serve(configFile: string): Promise<number> {
  let log = openLog("info");
  try {
    const config = readConfig(configFile);
    log = openLog(config.log.level);
    const server = await start(config, log);
    const signal = await toldToStop();
    log.info({ signal }, "stopping");
    const clean = await server.stop();
    log.info("stopped");
    return clean ? serverExit.stopped : serverExit.failed;
  } catch (error) {
    const { code, text } = explain(error);
    log.fatal({ err: error }, text);
    return code;
  }
}

interface Stage {
  /** Closes everything; answers whether all of it closed well. */
  stop(): Promise<boolean>;
}

/** Closes in reverse, each by itself: one that fails is logged, and keeps no other from being closed. Answers whether none failed. */
export async function closeAll(opened: (() => Promise<void>)[], log: Logger): Promise<boolean> {
  let clean = true;
  for (const close of opened.splice(0).toReversed()) {
    try {
      await close();
    } catch (error) {
      clean = false;
      log.error({ err: error }, "a part of the server could not be closed; the others are closed all the same");
    }
  }
  return clean;
}

/** Opens everything in order; on a failure closes what was opened. */
async function start(config: Config, log: Logger): Promise<Stage> {
  const opened: (() => Promise<void>)[] = [];
  try {
    await open(config, log, (close) => opened.push(close));
  } catch (error) {
    await closeAll(opened, log);
    throw error;
  }
  return { stop: () => closeAll(opened, log) };
}

async function open(config: Config, log: Logger, onStop: (close: () => Promise<void>) => void): Promise<void> {
  const { limits } = config;
  const metrics = new Metrics();
  const database = new Database(config.database, (error) => log.warn({ err: error }, "a database connection was lost"));
  onStop(() => database.close());
  const auditDatabase = new Database({ ...config.database, pool: config.database.auditPool }, (error) => log.warn({ err: error }, "a database connection was lost"));
  onStop(() => auditDatabase.close());
  await ensurePartitions(database);

  const writer = (stream: "reveal" | "mutation" | "notice"): CommittedWriter => {
    const made = new CommittedWriter({ database: config.database, stream, queue_max: limits.writerQueue, batch_max: limits.writerBatch, observer });
    onStop(() => made.close());
    metrics.watch(`${stream}_writer_waiting`, `calls waiting for a commit of the ${stream} writer`, () => made.waiting);
    return made;
  };
  const observer: WriterObserver = {
    headMoved: (error) => alerts.raise("audit.head_moved", {}, error),
    withheld: (call) => journal.withheld(call),
    notDone: (call) => journal.notDone(call),
    commitResolved: (committed) => log.warn({ committed }, "the answer to a commit was lost; what was committed is known again"),
    workFailed: (kind, error) => log.error({ kind, err: error }, "work could not be committed"),
  };
  const notices = writer("notice");
  const mutations = writer("mutation");
  const reveals = writer("reveal");
  const sums = new RefusalSums(notices, limits.handshakesRefusedTracked, (error) => log.error({ err: error }, "refusals could not be committed"));
  onStop(() => sums.close());
  const journal = new CommittedJournal(reveals, notices, sums, (error) => log.error({ err: error }, "a notice could not be committed"));
  onStop(() => journal.close());
  const where = { host: hostname(), pid: process.pid };
  let started = false;
  onStop(async () => {
    if (!started) return;
    // The server has stopped well without it: the store is away, and a log without the entry says no more than after a crash.
    await journal.event("audit.stop", where).catch((error: unknown) => log.warn({ err: error }, "the entry audit.stop could not be committed"));
  });
  const alerts = new Alerts(journal, log, metrics);

  const hsm = await openTheHsm(config, log, database, alerts);
  onStop(() => hsm.close(limits.drain_ms));
  const keys = await KeyRing.open(hsm, database, ({ name, tenant, cause, ...facts }) => alerts.raise(name, { ...facts, ...(tenant === null ? {} : { tenant }), found: cause }));
  const policy = await Policy.open(database, config.database, limits, log);
  onStop(() => policy.close());

  const random = new RandomPool(hsm);
  const institutions = new Institutions(database);
  const parts = { database, hsm, keys, random, institutions, mutations, reveals, limits };
  const cards = new CardIndex(parts);
  const items = new ItemsInFlight(limits);
  const tokens = tokenService({
    tokenizer: new Tokenizer(parts),
    detokenizer: new Detokenizer({ ...parts, onIntegrity: (facts) => alerts.raise("card.not_verified", facts) }),
    records: new TokenRecords(parts),
    cards,
    items,
    guesses: new GuessLimit(limits, ({ id }, alert) => {
      if (alert === "suspected") alerts.raise("tokenize.guessing_suspected", { principal: id });
      else alerts.raise("tokenize.guessing", { principal: id });
    }),
    limits,
  });

  // Before anybody is let in.
  await journal.event("audit.start", where);
  started = true;
  const server = await startServer({
    config,
    log,
    policy,
    journal,
    metrics,
    alert: alerts.raise,
    services: [served(TokenService, tokens), served(CardService, cardService(cards, items, config)), served(AuditService, auditService(auditDatabase, institutions, limits))],
  });
  onStop(() => server.stop());
  const housekeeping = startHousekeeping({
    database,
    hsm,
    keys,
    limits,
    onFailure: (job, error) => log.warn({ job, err: error }, "housekeeping failed; it is tried again"),
  });
  onStop(() => housekeeping.stop());
  const probe = await startProbe({
    listen: config.probe,
    metrics,
    log,
    checks: {
      serving: () => ({ ok: server.serving }),
      database: async () => {
        await database.requireWritable();
        return { ok: true };
      },
      hsm: async () => {
        const { state } = await hsm.health();
        return { ok: state === "ready", detail: state };
      },
      audit: () => ({ ok: !reveals.broken && !mutations.broken && !notices.broken }),
    },
    alerts: () => alerts.raised,
  });
  onStop(() => probe.close());
  log.info({ port: server.address.port, probe: probe.address.port, profile: config.profile, provider: config.hsm.provider }, "ready");
}

async function openTheHsm(config: Config, log: Logger, database: Database, alerts: Alerts): Promise<Hsm> {
  return openHsm(hsmOptions(config, await readPin(config.hsm, { input: process.stdin, output: process.stderr })), new StoredLoginGuard(database), {
    hung: () => {
      // A native call that does not return also blocks a normal end of the process; the supervisor starts another.
      log.fatal("an HSM call does not return; this process ends itself");
      process.kill(process.pid, "SIGKILL");
    },
    stateChanged: (state, cause) => {
      if (state === "ready") log.info({ state }, "HSM state");
      else alerts.raise(`hsm.${state}`, {}, cause);
    },
  });
}

function toldToStop(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
    process.once("disconnect", () => resolve("the parent process is gone"));
  });
}

/** One line that says what to do, and the exit code. */
function explain(error: unknown): { readonly code: number; readonly text: string } {
  if (error instanceof ConfigError) return { code: serverExit.misconfigured, text: error.message };
  if (error instanceof HsmError && error.errorClass === "login") return { code: serverExit.pinRefused, text: error.message };
  if (error instanceof HsmError) return { code: serverExit.failed, text: `the HSM can't be used: ${error.message}` };
  if (error instanceof Failure && error.reason === "STORE_UNAVAILABLE") {
    return { code: serverExit.failed, text: `PostgreSQL can't be reached: ${errorText(error.cause)}; check database.url and that it runs` };
  }
  if (error instanceof Failure) return { code: serverExit.failed, text: error.message };
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return { code: serverExit.failed, text: `${errorText(error)}; another program has the port: stop it, or set listen.port and probe.port` };
  if (code === "42P01" || code === "42883" || code === "3F000") return { code: serverExit.failed, text: "the database has no Cardex tables yet, or old ones; run: cardex migrate" };
  return { code: serverExit.failed, text: errorText(error) };
}

function errorText(error: unknown): string {
  return error instanceof Error ? error.message : "unknown error";
}
