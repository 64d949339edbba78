import { setTimeout as sleep } from "node:timers/promises";
import { Batcher, type Settled } from "../src/batcher.js";
import { clock } from "../src/clock.js";
import type { Operation, OperationKind } from "./group.js";
import { HsmError, type Hsm, type HsmHealth, type KeyDescription, type KeyKind, type KeyMaker, type KeyName, type LoginGuard, type OpenKey } from "./hsm.js";
import { LanePool } from "./lane-pool.js";
import { iv_bytes, tag_bytes, text_bytes_max } from "./limits.js";
import type { HsmObserver, HsmOptions } from "./options.js";
import { OpenKeys } from "./open-keys.js";
import type { TokenPlace } from "./protocol.js";
import { TokenLink } from "./token-link.js";
import { Turns } from "./turns.js";

/** Operations in one group: a hop to a worker costs 50 µs or more, an operation 9 to 25 µs on SoftHSM. */
const groupSize_max = 64;
const backoffFirst_ms = 250;
const backoffLast_ms = 5000;
/** Time that each step of closing has when the drain used all of its own up. */
const closingLeast_ms = 1000;
const nothing = new Uint8Array(0);

/** PKCS#11 allows one initialized library a process; a second driver would end the first one's sessions. */
let openInThisProcess = false;

/**
 * Opens the token: starts the workers, initializes the library, logs in once.
 * @throws HsmError; what the guard throws; Error if one is open in this process
 */
export async function openHsm(options: HsmOptions, guard: LoginGuard, observer: HsmObserver): Promise<Hsm & KeyMaker> {
  if (openInThisProcess) throw new Error("an HSM is open in this process; close it first");
  openInThisProcess = true;
  const driver = new Driver(options, guard, observer);
  try {
    await driver.connect();
  } catch (error) {
    await driver.close();
    throw error;
  }
  return driver;
}

class Driver implements Hsm, KeyMaker {
  readonly #options: HsmOptions;
  readonly #observer: HsmObserver;
  readonly #link: TokenLink;
  readonly #lanes: LanePool;
  readonly #keys: OpenKeys;
  readonly #batcher: Batcher<Operation, Uint8Array>;
  /** Opening keys, destroying them, checking and recovering never overlap. */
  readonly #turns = new Turns();
  readonly #closing = new AbortController();
  #state: HsmHealth["state"] = "recovering";
  #recovery: Promise<void> | undefined;
  #health: Promise<void> | undefined;

  constructor(options: HsmOptions, guard: LoginGuard, observer: HsmObserver) {
    this.#options = options;
    this.#observer = observer;
    this.#link = new TokenLink(options, guard);
    this.#lanes = new LanePool(options.lanes, options.call_ms);
    this.#keys = new OpenKeys(this.#link, this.#lanes);
    this.#batcher = new Batcher(
      { name: "hsmQueue", batchSize_max: groupSize_max, queue_max: options.queue_max, inFlight_max: options.lanes },
      (operations) => this.#perform(operations),
    );
  }

  async connect(): Promise<void> {
    try {
      await this.#startLanes(await this.#link.connect());
    } catch (error) {
      // A thread that hangs keeps the process from ending in any other way.
      if (error instanceof HsmError && error.errorClass === "timeout") this.#fail(error);
      throw error;
    }
    this.#change("ready", undefined);
  }

  async openKey(name: KeyName): Promise<OpenKey> {
    this.#requireReady();
    return await (this.#keys.opened(name) ?? this.#guarded(() => this.#keys.open(name)));
  }

  verifyKey(name: KeyName): Promise<OpenKey> {
    return this.#guarded(() => this.#keys.verify(name));
  }

  encrypt(key: OpenKey, plaintext: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
    return this.#submit("encrypt", key, plaintext, aad);
  }

  decrypt(key: OpenKey, sealed: Uint8Array, aad: Uint8Array): Promise<Uint8Array> {
    if (sealed.length < iv_bytes + tag_bytes) return Promise.reject(new HsmError("integrity", "decrypt: shorter than IV and tag"));
    return this.#submit("decrypt", key, sealed, aad, text_bytes_max + iv_bytes + tag_bytes);
  }

  mac(key: OpenKey, data: Uint8Array): Promise<Uint8Array> {
    return this.#submit("mac", key, data, nothing);
  }

  sign(key: OpenKey, data: Uint8Array): Promise<Uint8Array> {
    return this.#submit("sign", key, data, nothing);
  }

  random(length: number): Promise<Uint8Array> {
    if (!Number.isInteger(length) || length < 1 || length > text_bytes_max) {
      return Promise.reject(new HsmError("operation", `random: length is not 1 to ${text_bytes_max}`));
    }
    return this.#submit("random", undefined, new Uint8Array(Uint32Array.of(length).buffer), nothing);
  }

  describeKey(name: KeyName): Promise<KeyDescription> {
    return this.#guarded(() => this.#link.call("describeKey", name));
  }

  listKeys(): Promise<KeyDescription[]> {
    return this.#guarded(() => this.#link.call("listKeys", {}));
  }

  generateKey(kind: KeyKind, label: string): Promise<KeyDescription> {
    return this.#guarded(() => this.#link.call("generateKey", { kind, label }));
  }

  destroyKey(name: KeyName): Promise<void> {
    return this.#guarded(async () => {
      await this.#keys.drop(name);
      await this.#link.call("destroyKey", name);
    });
  }

  async health(): Promise<HsmHealth> {
    if (this.#state === "ready") {
      this.#health ??= this.#check().finally(() => {
        this.#health = undefined;
      });
      await this.#health;
    }
    return { state: this.#state, provider: this.#options.provider, tokenSerial: this.#link.serial, lanes: this.#options.lanes };
  }

  async close(drain_ms = 10_000): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    const until_ms = clock.monotonic_ms() + drain_ms;
    const left_ms = (): number => Math.max(until_ms - clock.monotonic_ms(), closingLeast_ms);
    // A recovery may be in the middle of a login, or wait for that of another process.
    await Promise.race([this.#recovery, sleep(left_ms(), undefined, { ref: false })]);
    await this.#lanes.stop(left_ms());
    // Where that fails, the end of the threads, or of the process, ends what the library holds.
    if (this.#state !== "failed") await this.#link.finalize(left_ms()).catch(() => undefined);
    const ended = Promise.all([this.#lanes.terminate(), this.#link.terminate()]).then(() => {
      openInThisProcess = false;
    });
    // A thread that hangs in a native call never ends.
    await Promise.race([ended, sleep(left_ms(), undefined, { ref: false })]);
  }

  #submit(kind: OperationKind, key: OpenKey | undefined, a: Uint8Array, b: Uint8Array, a_bytes_max = text_bytes_max): Promise<Uint8Array> {
    try {
      this.#requireReady();
      if (a.length > a_bytes_max || b.length > text_bytes_max) throw new HsmError("operation", `${kind}: over ${text_bytes_max} bytes`);
      const index = key === undefined ? 0 : this.#keys.indexOf(key, kind);
      return this.#batcher.submit({ kind, key: index, a, b });
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  async #perform(operations: readonly Operation[]): Promise<readonly Settled<Uint8Array>[]> {
    this.#requireReady();
    const start_ms = clock.monotonic_ms();
    try {
      const settled = await this.#lanes.perform(operations);
      for (const each of settled) if (!each.ok) this.#noticed(each.error);
      return settled;
    } catch (error) {
      this.#noticed(error);
      throw error;
    } finally {
      this.#observer.grouped?.(operations.length, clock.monotonic_ms() - start_ms);
    }
  }

  /** Work on the control worker, one at a time, in a ready state. */
  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    // Before the turn, too: a recovery takes its turn for as long as the token is away.
    this.#requireReady();
    return await this.#turns.take(async () => {
      this.#requireReady();
      try {
        return await work();
      } catch (error) {
        this.#noticed(error);
        throw error;
      }
    });
  }

  #requireReady(): void {
    if (this.#closing.signal.aborted) throw new HsmError("device", "the HSM is closed");
    if (this.#state === "ready") return;
    if (this.#state === "login-refused") throw new HsmError("login", "the PIN was refused; an operator has to clear that first");
    if (this.#state === "failed") throw new HsmError("timeout", "the HSM does not answer");
    throw new HsmError("device", "the HSM is away; recovery is under way");
  }

  /** The known-answer operation on a token object and on every lane; another key each time. */
  #check(): Promise<void> {
    return this.#guarded(() => this.#keys.check()).catch(() => {
      // `#guarded` has drawn the consequences; the state tells.
    });
  }

  #noticed(error: unknown): void {
    if (!(error instanceof HsmError)) return;
    if (error.errorClass === "timeout") this.#fail(error);
    if (error.errorClass === "device") this.#recover(error);
  }

  #fail(cause: HsmError): void {
    if (this.#state === "failed") return;
    this.#change("failed", cause);
    this.#observer.hung();
  }

  #recover(cause: HsmError): void {
    if (this.#state !== "ready" || this.#closing.signal.aborted) return;
    this.#change("recovering", cause);
    this.#recovery = this.#turns.take(() => this.#reconnect());
  }

  /** Drains, finalizes, initializes, logs in once, reopens the keys; again and again, until it works, the PIN is refused, or close. */
  async #reconnect(): Promise<void> {
    let told: string | undefined;
    for (let wait_ms = backoffFirst_ms; !this.#closing.signal.aborted; wait_ms = Math.min(wait_ms * 2, backoffLast_ms)) {
      try {
        await this.#lanes.stop(this.#options.call_ms);
        await this.#link.finalize();
        const token = await this.#link.connect();
        if (this.#closing.signal.aborted) return;
        await this.#startLanes(token);
        await this.#keys.reopen();
        this.#change("ready", undefined);
        return;
      } catch (error) {
        if (error instanceof HsmError && error.errorClass === "timeout") return this.#fail(error);
        if (this.#link.refused) return this.#change("login-refused", error);
        const reason = error instanceof Error ? error.message : "";
        if (reason !== told) this.#observer.stateChanged("recovering", error);
        told = reason;
      }
      await sleep(wait_ms, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  #startLanes({ slot }: TokenPlace): Promise<void> {
    const { library, provider } = this.#options;
    return this.#lanes.start({ library, provider, slot });
  }

  #change(state: HsmHealth["state"], cause: unknown): void {
    // A thread that hangs does not come back: only a restart of the process leaves this state.
    if (this.#state === "failed") return;
    this.#state = state;
    this.#observer.stateChanged(state, cause);
  }
}
