import { LRUCache } from "lru-cache";
import { Failure } from "../failure.js";
import type { Database, Statement } from "../store/database.js";

const FIND: Statement = { name: "institution_of_tenant", text: "select institution from tenants where tenant = $1" };

/** The institution number of each tenant: the first four digits of its index codes. It never changes, so it is kept. */
export class Institutions {
  readonly #database: Database;
  readonly #known = new LRUCache<string, string>({ max: 10_000 });

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws Failure KEY_STATE if the tenant was not set up; STORE_UNAVAILABLE */
  async of(tenant: string): Promise<string> {
    const institution = await this.#find(tenant);
    if (institution !== undefined) return institution;
    throw new Failure("KEY_STATE", "this tenant is not set up on the server; its operator runs `cardex tenants add`", { inner: "no tenant" });
  }

  /**
   * Whether these 16 digits can be an index code of the tenant. Others are neither looked up nor written down: they may be a PAN with a
   * digit wrong, sent by mistake, which the Luhn check does not tell from a code.
   * @throws Failure STORE_UNAVAILABLE
   */
  async mayHave(tenant: string, code: string): Promise<boolean> {
    const institution = await this.#find(tenant);
    return institution !== undefined && code.startsWith(institution);
  }

  async #find(tenant: string): Promise<string | undefined> {
    const known = this.#known.get(tenant);
    if (known !== undefined) return known;
    const row = (await this.#database.query<{ institution: string }>(FIND, [tenant]))[0];
    if (row !== undefined) this.#known.set(tenant, row.institution);
    return row?.institution;
  }
}
