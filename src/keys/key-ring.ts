import { LRUCache } from "lru-cache";
import { HsmError, type Hsm, type OpenKey } from "../../hsm/hsm.js";
import { Failure } from "../failure.js";
import type { Database } from "../store/database.js";
import { findActiveKey, findKeyVersion, type KeyPurpose, type RegisteredKey } from "../store/keys.js";
import { isRegisteredKey } from "./known-answer.js";

/** Time that "this is the tenant's active key" and "this tenant has none" are believed: a change takes effect within it. */
const activeKept_ms = 1000;
const tenantsKept_max = 10_000;

/** A key, and the version that stands beside what it makes. */
export interface VersionedKey {
  /** 1 to 65,535. */
  readonly version: number;
  readonly key: OpenKey;
  /** UUID in the register. */
  readonly keyId: string;
  /** Raw public key, hex, of a signing key. */
  readonly publicKey: string | undefined;
}

/** A key in the HSM that is not the registered one, or lacks an attribute that it must have. */
export interface KeyAlert {
  readonly name: "key_not_verified";
  readonly keyId: string;
  readonly purpose: KeyPurpose;
  readonly tenant: string | null;
  readonly version: number;
  /** What was found; never key material. */
  readonly cause: string;
}

type InstallationPurpose = "fingerprint" | "request" | "audit";
const installationPurposes: readonly InstallationPurpose[] = ["fingerprint", "request", "audit"];

interface Loaded {
  readonly registered: RegisteredKey;
  readonly versioned: VersionedKey;
}

/**
 * The keys that a server uses: those of the installation from the start on, those of tenants from their first use on. Each is verified against the register
 * before it is used. Never makes a key.
 */
export class KeyRing {
  readonly #hsm: Hsm;
  readonly #database: Database;
  readonly #onAlert: (alert: KeyAlert) => void;
  /** By key ID: loaded and verified, or being so. */
  readonly #loaded = new Map<string, Promise<Loaded>>();
  readonly #installation = new Map<InstallationPurpose, RegisteredKey>();
  readonly #ready = new Map<string, VersionedKey>();
  /** By key ID: did not verify, was alerted, and is not used until `verify` finds it in order. */
  readonly #refused = new Map<string, RegisteredKey>();
  readonly #active = new LRUCache<string, Promise<VersionedKey>>({ max: tenantsKept_max, ttl: activeKept_ms });
  readonly #versions = new LRUCache<string, Promise<OpenKey>>({ max: tenantsKept_max });

  private constructor(hsm: Hsm, database: Database, onAlert: (alert: KeyAlert) => void) {
    this.#hsm = hsm;
    this.#database = database;
    this.#onAlert = onAlert;
  }

  /**
   * Loads and verifies the installation's keys. `onAlert` must not throw.
   * @throws Failure KEY_STATE if one is missing, INTEGRITY if one does not verify, STORE_UNAVAILABLE; HsmError
   */
  static async open(hsm: Hsm, database: Database, onAlert: (alert: KeyAlert) => void): Promise<KeyRing> {
    const ring = new KeyRing(hsm, database, onAlert);
    for (const purpose of installationPurposes) {
      const registered = await findActiveKey(database, purpose, null);
      if (registered === undefined) throw new Failure("KEY_STATE", `there is no active ${purpose} key; run: cardex keys init`, { inner: "no key" });
      await ring.#load(registered);
      ring.#installation.set(purpose, registered);
    }
    return ring;
  }

  /** HMAC key that finds the card of a PAN. @throws Failure INTEGRITY once it did not verify */
  fingerprint(): VersionedKey {
    return this.#installed("fingerprint");
  }

  /** HMAC key that binds a request_id to its request. @throws Failure INTEGRITY once it did not verify */
  request(): VersionedKey {
    return this.#installed("request");
  }

  /** Ed25519 key that signs checkpoints. @throws Failure INTEGRITY once it did not verify */
  audit(): VersionedKey {
    return this.#installed("audit");
  }

  /**
   * The AES-GCM key that the tenant's PANs are encrypted with now.
   * @throws Failure KEY_STATE if the tenant has none, INTEGRITY if it does not verify, STORE_UNAVAILABLE; HsmError
   */
  panForEncrypt(tenant: string): Promise<VersionedKey> {
    return kept(this.#active, tenant, async () => {
      const registered = await findActiveKey(this.#database, "pan", tenant);
      if (registered === undefined) throw missing(tenant);
      return (await this.#load(registered)).versioned;
    });
  }

  /**
   * The key of a version, to decrypt with: active, decrypt-only or compromised.
   * @throws Failure as `panForEncrypt`; HsmError
   */
  pan(tenant: string, version: number): Promise<OpenKey> {
    return kept(this.#versions, JSON.stringify([tenant, version]), async () => {
      const registered = await findKeyVersion(this.#database, "pan", tenant, version);
      if (registered === undefined) throw missing(tenant);
      if (registered.state === "pending" || registered.state === "destroyed") {
        throw new Failure("KEY_STATE", "the key of this card can't be used", { inner: `key ${registered.state}` });
      }
      return (await this.#load(registered)).versioned.key;
    });
  }

  /**
   * Verifies every key again, on the token (PCI DSS 3.7.7: at intervals). One that does not verify is not used any more and alerts,
   * once, until it verifies again.
   * @returns the number of keys that did not verify
   * @throws HsmError of the first key that could not be looked at, after all the others
   */
  async verify(): Promise<number> {
    const loaded = (await Promise.allSettled(this.#loaded.values())).flatMap((each) => (each.status === "fulfilled" ? [each.value.registered] : []));
    let refused = 0;
    const errors: unknown[] = [];
    for (const registered of [...loaded, ...this.#refused.values()]) {
      try {
        await this.#admit(registered);
      } catch (error) {
        if (error instanceof Failure) refused += 1;
        else errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
    return refused;
  }

  #installed(purpose: InstallationPurpose): VersionedKey {
    const registered = this.#installation.get(purpose);
    const key = registered === undefined ? undefined : this.#ready.get(registered.keyId);
    if (key === undefined) throw notVerified();
    return key;
  }

  #load(registered: RegisteredKey): Promise<Loaded> {
    const { keyId } = registered;
    if (this.#refused.has(keyId)) {
      // What the register says now, so that a correction there is seen by the next verification.
      this.#refused.set(keyId, registered);
      return Promise.reject(notVerified());
    }
    const before = this.#loaded.get(keyId);
    if (before !== undefined) return before;
    const loading = this.#admit(registered);
    this.#loaded.set(keyId, loading);
    loading.catch(() => {
      if (this.#loaded.get(keyId) === loading) this.#loaded.delete(keyId);
    });
    return loading;
  }

  /** @throws Failure INTEGRITY, after the alert; HsmError of other classes */
  async #admit(registered: RegisteredKey): Promise<Loaded> {
    const { keyId, version, publicKey } = registered;
    const key = await this.#verifyOnToken(registered);
    const versioned = { version, key, keyId, publicKey: publicKey ?? undefined };
    this.#ready.set(keyId, versioned);
    const loaded = { registered, versioned };
    if (this.#refused.delete(keyId)) this.#loaded.set(keyId, Promise.resolve(loaded));
    return loaded;
  }

  async #verifyOnToken(registered: RegisteredKey): Promise<OpenKey> {
    try {
      const key = await this.#hsm.verifyKey({ id: registered.ckaId, kind: registered.kind });
      if (await isRegisteredKey(this.#hsm, key, registered)) return key;
    } catch (error) {
      if (!(error instanceof HsmError) || error.errorClass !== "key") throw error;
      throw this.#refuse(registered, error.message, error);
    }
    throw this.#refuse(registered, "it is not the registered key", undefined);
  }

  /** Takes a key out of use. Alerts, unless it is out of use already. */
  #refuse(registered: RegisteredKey, found: string, cause: unknown): Failure {
    const { keyId, purpose, tenant, version } = registered;
    this.#loaded.delete(keyId);
    this.#ready.delete(keyId);
    this.#active.clear();
    this.#versions.clear();
    if (!this.#refused.has(keyId)) this.#onAlert({ name: "key_not_verified", keyId, purpose, tenant, version, cause: found });
    this.#refused.set(keyId, registered);
    return notVerified(cause);
  }
}

/** What the cache has, or what `find` finds. A KEY_STATE is kept like an answer; any other failure is asked again. */
function kept<V>(cache: LRUCache<string, Promise<V>>, key: string, find: () => Promise<V>): Promise<V> {
  const before = cache.get(key);
  if (before !== undefined) return before;
  const finding = find();
  cache.set(key, finding);
  finding.catch((error: unknown) => {
    const negative = error instanceof Failure && error.reason === "KEY_STATE" && cache.ttl > 0;
    if (!negative && cache.peek(key) === finding) cache.delete(key);
  });
  return finding;
}

function missing(tenant: string): Failure {
  return new Failure("KEY_STATE", "this tenant has no key; its operator runs: cardex tenants add", { inner: `no key for tenant ${tenant}` });
}

function notVerified(cause?: unknown): Failure {
  return new Failure("INTEGRITY", "a key does not verify; operators were alerted", { inner: "key not verified", cause });
}
