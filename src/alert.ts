import type { Journal } from "./audit/journal.js";
import type { Logger } from "./log.js";
import type { Metrics } from "./metrics.js";

/** Raises an alert: `name` is stable, in lower case with dots; no fact holds a PAN, a secret, a token or a foreign text. Never throws. */
export type RaiseAlert = (name: string, facts: Readonly<Record<string, string | number>>, cause?: unknown) => void;

/** An alert is an entry in the log "system", a log line, a metric and a health state; never only a line of text. */
export class Alerts {
  readonly #journal: Pick<Journal, "notice">;
  readonly #log: Logger;
  readonly #metrics: Metrics;
  readonly #raised = new Set<string>();

  constructor(journal: Pick<Journal, "notice">, log: Logger, metrics: Metrics) {
    this.#journal = journal;
    this.#log = log;
    this.#metrics = metrics;
  }

  /** Names of the alerts raised since the start, for /readyz. They stay until an operator has looked and restarts. */
  get raised(): readonly string[] {
    return [...this.#raised].toSorted();
  }

  readonly raise: RaiseAlert = (name, facts, cause) => {
    this.#raised.add(name);
    this.#metrics.alertRaised(name);
    this.#log.error({ alert: name, ...facts, ...(cause === undefined ? {} : { err: cause }) }, `alert ${name}`);
    this.#journal.notice(`alert.${name}`, { ...facts });
  };
}
