import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

/**
 * What the service counts, for Prometheus. Labels are the RPC, the gRPC code and names that stand in this code; nothing that a caller
 * sent, and no tenant.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #calls: Counter<"rpc" | "code">;
  readonly #duration: Histogram<"rpc">;
  readonly #handshakesRefused: Counter<"reason">;
  readonly #alerts: Counter<"alert">;

  constructor() {
    const registers = [this.#registry];
    this.#calls = new Counter({ name: "cardex_calls_total", help: "calls that ended, by RPC and gRPC code", labelNames: ["rpc", "code"], registers });
    this.#duration = new Histogram({
      name: "cardex_call_duration_seconds",
      help: "time from a call's headers to its status, by RPC",
      labelNames: ["rpc"],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    });
    this.#handshakesRefused = new Counter({ name: "cardex_handshakes_refused_total", help: "TLS handshakes refused, by reason", labelNames: ["reason"], registers });
    this.#alerts = new Counter({ name: "cardex_alerts_total", help: "alerts raised, by name", labelNames: ["alert"], registers });
    collectDefaultMetrics({ register: this.#registry });
  }

  /** @param rpc for example "cardex.v1.TokenService/Tokenize" @param code name of the gRPC code */
  callEnded(rpc: string, code: string, seconds: number): void {
    this.#calls.inc({ rpc, code });
    this.#duration.observe({ rpc }, seconds);
  }

  /** @param reason one of a closed set, not a foreign text */
  handshakeRefused(reason: string): void {
    this.#handshakesRefused.inc({ reason });
  }

  alertRaised(alert: string): void {
    this.#alerts.inc({ alert });
  }

  /** A value that is read when metrics are asked for: a queue's length, calls in flight. `name` gets the prefix "cardex_". */
  watch(name: string, help: string, read: () => number): void {
    const gauge = new Gauge({
      name: `cardex_${name}`,
      help,
      registers: [this.#registry],
      collect: () => {
        gauge.set(read());
      },
    });
  }

  /** All of it, in Prometheus' text format. */
  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
