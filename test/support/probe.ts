import type { TestServer } from "./installation.js";

/** What a server's /readyz tells. */
export interface Readiness {
  readonly status: number;
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail?: string }>>;
  readonly alerts: readonly string[];
}

/** Asks /readyz. */
export async function readiness(server: Pick<TestServer, "probePort">): Promise<Readiness> {
  const response = await fetch(`http://127.0.0.1:${server.probePort}/readyz`);
  return { status: response.status, ...((await response.json()) as Omit<Readiness, "status">) };
}

/** All of /metrics. */
export async function metricsText(server: Pick<TestServer, "probePort">): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${server.probePort}/metrics`)).text();
}

/** The sum of a metric over all label values that contain `labels`. */
export async function metric(server: Pick<TestServer, "probePort">, name: string, labels = ""): Promise<number> {
  const lines = (await metricsText(server)).split("\n").filter((line) => line.startsWith(name) && /^[{ ]/.test(line.slice(name.length)) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
