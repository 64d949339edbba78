import { HsmError, type LoginGuard } from "./hsm.js";
import { setLibraryEnvironment } from "./library-environment.js";
import type { HsmOptions } from "./options.js";
import type { ControlCalls, TokenPlace } from "./protocol.js";
import { WorkerChannel } from "./worker-channel.js";

/** Time of a login, of generating a key and of starting the library, at least: HSMs take seconds for these. */
const slowCall_ms = 30_000;

/** The control worker, and the one login of the process. */
export class TokenLink {
  readonly #options: HsmOptions;
  readonly #guard: LoginGuard;
  #control: WorkerChannel<ControlCalls>;
  #serial: string | undefined;
  #refused = false;

  constructor(options: HsmOptions, guard: LoginGuard) {
    this.#options = options;
    this.#guard = guard;
    setLibraryEnvironment(options.softhsmConf);
    this.#control = newControl();
  }

  /** Serial number of the token; empty before the first connect. */
  get serial(): string {
    return this.#serial ?? "";
  }

  /** Whether the PIN was refused. Then no login is tried any more. */
  get refused(): boolean {
    return this.#refused;
  }

  /**
   * Initializes the library, finds the token by its label, logs in once through the guard.
   * @throws HsmError "device" without the token, or if another one answers than the first time; "login" if the PIN was refused, now or
   * before; what the guard throws
   */
  async connect(): Promise<TokenPlace> {
    if (this.#refused) throw new HsmError("login", "the PIN was refused; an operator has to clear that first");
    if (this.#control.ended) this.#control = newControl();
    const { library, provider, tokenLabel } = this.#options;
    const token = await this.call("initialize", { library, provider, tokenLabel });
    if (this.#serial !== undefined && this.#serial !== token.serial) {
      throw new HsmError("device", `token "${tokenLabel}" has serial ${token.serial} now, it had ${this.#serial}`);
    }
    this.#serial = token.serial;
    await this.#login(token.serial);
    return token;
  }

  /** One call to the control worker. @throws HsmError */
  call<K extends keyof ControlCalls>(method: K, input: Parameters<ControlCalls[K]>[0], wait_ms = this.#slowCall_ms): Promise<ReturnType<ControlCalls[K]>> {
    return this.#control.call(method, input, wait_ms);
  }

  /** Ends everything that the library holds for this process. */
  async finalize(wait_ms = this.#slowCall_ms): Promise<void> {
    if (!this.#control.ended) await this.call("finalize", {}, wait_ms);
  }

  async terminate(): Promise<void> {
    await this.#control.terminate();
  }

  get #slowCall_ms(): number {
    return Math.max(slowCall_ms, this.#options.call_ms);
  }

  async #login(serial: string): Promise<void> {
    try {
      await this.#guard.attempt(serial, async () => {
        const accepted = await this.call("login", { pin: this.#options.pin.open() });
        // Known here whatever becomes of the guard's record: this process never tries again.
        if (!accepted) this.#refused = true;
        return accepted;
      });
    } catch (error) {
      if (error instanceof HsmError && error.errorClass === "login") this.#refused = true;
      throw error;
    }
    if (this.#refused) throw new HsmError("login", "the PIN was refused");
  }
}

function newControl(): WorkerChannel<ControlCalls> {
  return new WorkerChannel<ControlCalls>(new URL("./control-worker.js", import.meta.url), "hsm-control");
}
