import type { TestProject } from "vitest/node";
import { environment } from "../../src/config.js";
import { asAdmin, OwnCluster, prepareCluster, type TestCluster } from "./cluster.js";

declare module "vitest" {
  interface ProvidedContext {
    readonly cluster: TestCluster;
  }
}

/** Starts one PostgreSQL for the whole run, or uses that of CARDEX_DATABASE_URL. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = environment.databaseUrl();
  const own = given === undefined ? await OwnCluster.start({ max_connections: "300" }, (line) => process.stderr.write(`${line}\n`)) : undefined;
  const cluster = own?.cluster ?? (await prepareCluster(given ?? "", undefined));
  project.provide("cluster", cluster);
  return async () => {
    if (own !== undefined) return await own.close();
    await asAdmin(cluster.adminUrl, [`DROP ROLE ${cluster.serviceLogin}`, `DROP ROLE ${cluster.auditorLogin}`]);
  };
}
