import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Config } from "../config.js";
import type { Logger } from "../log.js";
import type { Metrics } from "../metrics.js";

/** Time for one readiness check, milliseconds; a check that takes longer has failed. */
const check_ms = 2000;

/** What came of a check: whether it holds, and a word or two for the operator. No secret, no foreign text. */
export interface CheckResult {
  readonly ok: boolean;
  readonly detail?: string;
}

/** One named condition of being ready. Throwing is failing. */
export type ReadinessCheck = () => CheckResult | Promise<CheckResult>;

export interface ProbeOptions {
  readonly listen: Config["probe"];
  readonly metrics: Metrics;
  readonly log: Logger;
  /** By name; all must hold for /readyz to answer 200. */
  readonly checks: Readonly<Record<string, ReadinessCheck>>;
  /** Alerts raised since the start; told, but no reason to take a server out of service. */
  readonly alerts: () => readonly string[];
}

/** A running probe port. */
export interface Probe {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

/**
 * The HTTP port for orchestrators and Prometheus: /livez, /readyz and /metrics. No certificate, so nothing here is about a tenant or a
 * card.
 * @throws an error with code EADDRINUSE or EACCES if the port can't be had
 */
export async function startProbe(options: ProbeOptions): Promise<Probe> {
  const server = createServer({ requestTimeout: 5000, headersTimeout: 5000, maxHeaderSize: 8192 }, (request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      options.log.error({ err: error }, "probe failed");
      send(response, 500, "text/plain", "internal error\n");
    });
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.listen.port, options.listen.host, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
  return {
    address: server.address() as AddressInfo,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

async function answer(options: ProbeOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") return send(response, 405, "text/plain", "GET only\n");
  if (request.url === "/livez") return send(response, 200, "text/plain", "live\n");
  if (request.url === "/metrics") return send(response, 200, options.metrics.contentType, await options.metrics.text());
  if (request.url !== "/readyz") return send(response, 404, "text/plain", "there are /livez, /readyz and /metrics\n");
  const checks = await runChecks(options);
  const ready = Object.values(checks).every((check) => check.ok);
  send(response, ready ? 200 : 503, "application/json", `${JSON.stringify({ ready, checks, alerts: options.alerts() })}\n`);
}

async function runChecks({ checks, log }: ProbeOptions): Promise<Record<string, CheckResult>> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]): Promise<[string, CheckResult]> => {
      try {
        return [name, await inTime(Promise.resolve(check()))];
      } catch (error) {
        log.warn({ check: name, err: error }, "readiness check failed");
        return [name, { ok: false }];
      }
    }),
  );
  return Object.fromEntries(results);
}

async function inTime(work: Promise<CheckResult>): Promise<CheckResult> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<CheckResult>((resolve) => {
    timer = setTimeout(() => resolve({ ok: false, detail: "no answer in time" }), check_ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function send(response: ServerResponse, code: number, type: string, body: string): void {
  if (response.headersSent) return;
  response.writeHead(code, { "content-type": type, "cache-control": "no-store" }).end(body);
}
