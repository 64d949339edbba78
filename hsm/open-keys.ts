import type { OperationKind } from "./group.js";
import { HsmError, type KeyKind, type KeyName, type OpenKey } from "./hsm.js";
import type { LanePool } from "./lane-pool.js";
import type { FoundKey } from "./protocol.js";
import type { TokenLink } from "./token-link.js";

interface Entry {
  readonly index: number;
  readonly key: OpenKey;
  found: FoundKey;
  /** Why the key can't be used: its token object is gone, or another one. */
  lost: HsmError | undefined;
}

const kindFor: Readonly<Record<Exclude<OperationKind, "random">, KeyKind>> = {
  encrypt: "aes-256-gcm",
  decrypt: "aes-256-gcm",
  mac: "hmac-sha-256",
  sign: "ed25519",
};

/** The keys that are open: on the token, and in every lane. Its methods that return a promise must not overlap. */
export class OpenKeys {
  readonly #link: TokenLink;
  readonly #lanes: LanePool;
  readonly #byId = new Map<string, Entry>();
  readonly #byKey = new WeakMap<OpenKey, Entry>();
  #indexes = 0;
  #turn = 0;

  constructor(link: TokenLink, lanes: LanePool) {
    this.#link = link;
    this.#lanes = lanes;
  }

  /** The key, if it is open. */
  opened(name: KeyName): Promise<OpenKey> | undefined {
    const entry = this.#byId.get(name.id);
    return entry === undefined || entry.lost !== undefined || entry.key.kind !== name.kind ? undefined : Promise.resolve(entry.key);
  }

  /** Index of a key in the lanes. @throws HsmError for a key that is not open here, that was lost, or that is for something else */
  indexOf(key: OpenKey, kind: OperationKind): number {
    const entry = this.#byKey.get(key);
    if (entry === undefined || this.#byId.get(key.id) !== entry) throw new HsmError("operation", `${kind}: the key is not open`);
    if (entry.lost !== undefined) throw entry.lost;
    if (kind !== "random" && kindFor[kind] !== key.kind) throw new HsmError("operation", `${kind}: not with a key of kind ${key.kind}`);
    return entry.index;
  }

  /** Finds, verifies, and adds to every lane. @throws HsmError */
  async open(name: KeyName): Promise<OpenKey> {
    const entry = this.#byId.get(name.id);
    return entry !== undefined && entry.key.kind === name.kind && entry.lost === undefined ? entry.key : await this.verify(name);
  }

  /**
   * As `open`; a key that is open already is looked up on the token again, and must be the same one. Lanes can't tell: their copies work on
   * when the token object is gone. @throws HsmError; after "key" the key is not used any more, until it verifies again
   */
  async verify(name: KeyName): Promise<OpenKey> {
    const { id, kind } = name;
    const before = this.#byId.get(id);
    if (before !== undefined && before.key.kind !== kind) throw new HsmError("key", `key ${id} is of kind ${before.key.kind}`);
    if (before !== undefined) {
      await this.#verifyAgain(before, before.lost !== undefined);
      return before.key;
    }
    const found = await this.#link.call("openKey", { id, kind, before: undefined });
    this.#indexes += 1;
    const index = this.#indexes;
    await this.#lanes.addKey({ index, id, handle: found.handle, probe: found.probe });
    const { label, checkValue } = found.description;
    const key: OpenKey = Object.freeze({ id, kind, label, checkValue });
    const entry: Entry = { index, key, found, lost: undefined };
    this.#byId.set(id, entry);
    this.#byKey.set(key, entry);
    return key;
  }

  /** Opens all keys again after the token came back. A key that is missing or another one is lost; the others go on. */
  async reopen(): Promise<void> {
    for (const entry of this.#byId.values()) await this.#losing(() => this.#verifyAgain(entry, true));
  }

  /** Lets every lane go of a key. */
  async drop(name: KeyName): Promise<void> {
    const entry = this.#byId.get(name.id);
    if (entry === undefined) return;
    this.#byId.delete(name.id);
    await this.#lanes.dropKey(entry.index);
  }

  /** The known-answer operation with one of the keys, the next one each time, on the token object and in every lane. */
  async check(): Promise<void> {
    const entries = [...this.#byId.values()].filter((each) => each.lost === undefined);
    this.#turn += 1;
    const entry = entries[this.#turn % Math.max(entries.length, 1)];
    try {
      await this.#link.call("check", entry === undefined ? { handle: undefined } : entry.found);
      await this.#lanes.check(entry?.index);
    } catch (error) {
      const aside = !(error instanceof HsmError) || error.errorClass === "timeout" || error.errorClass === "device";
      if (!aside && entry !== undefined && (await this.#losing(() => this.#verifyAgain(entry, false)))) return;
      throw asDeviceError(error);
    }
  }

  /** @param toLanes whether the lanes don't have the key, or not as it is now */
  async #verifyAgain(entry: Entry, toLanes: boolean): Promise<void> {
    const { id, kind, checkValue } = entry.key;
    try {
      const found = await this.#link.call("openKey", { id, kind, before: entry.found.probe });
      if (found.description.checkValue !== checkValue) throw new HsmError("key", `key ${id} has another check value than before`);
      if (toLanes || found.handle !== entry.found.handle) {
        await this.#lanes.addKey({ index: entry.index, id, handle: found.handle, probe: found.probe });
      }
      entry.found = found;
      entry.lost = undefined;
    } catch (error) {
      if (error instanceof HsmError && error.errorClass === "key") entry.lost = error;
      throw error;
    }
  }

  /** Whether `work` found that a key is lost, which is of no concern to the others. @throws what else `work` throws */
  async #losing(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return false;
    } catch (error) {
      if (error instanceof HsmError && error.errorClass === "key") return true;
      throw error;
    }
  }
}

/** A known answer that does not come, for whatever reason but a hung call, means that the token must be opened anew. */
function asDeviceError(error: unknown): unknown {
  if (!(error instanceof HsmError) || error.errorClass === "timeout" || error.errorClass === "device") return error;
  return new HsmError("device", `health: ${error.message}`, { ckr: error.ckr, cause: error });
}
