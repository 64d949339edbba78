import { Worker } from "node:worker_threads";
import { fromPlain } from "./errors.js";
import { HsmError } from "./hsm.js";
import type { Calls, RequestMessage, ResponseMessage } from "./protocol.js";

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: HsmError) => void;
  readonly timer: NodeJS.Timeout;
}

/** The main thread's end of one worker: calls by name, answers in order, a time limit on each. */
export class WorkerChannel<C extends Calls<C>> {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #ended = false;

  /** @param script compiled JavaScript */
  constructor(script: URL, name: string) {
    // The worker gets no argument, no environment and no standard input of ours: a PIN can't end up there.
    this.#worker = new Worker(script, { name, argv: [], env: {}, execArgv: [] });
    this.#worker.on("message", (message: ResponseMessage) => this.#settle(message));
    this.#worker.on("error", (error) => this.#end(error));
    this.#worker.on("exit", () => this.#end(undefined));
  }

  /** Whether the worker is gone; a call would fail with class "device". */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Calls `method` in the worker. Buffers in `transfer` move there.
   * @throws HsmError as the worker says; "timeout" without an answer in `timeout_ms`; "device" if the worker ended
   */
  call<K extends keyof C & string>(method: K, input: Parameters<C[K]>[0], timeout_ms: number, transfer: ArrayBuffer[] = []): Promise<ReturnType<C[K]>> {
    if (this.#ended) return Promise.reject(new HsmError("device", `${method}: the HSM worker ended`));
    this.#next += 1;
    const id = this.#next;
    return new Promise<ReturnType<C[K]>>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new HsmError("timeout", `${method}: no answer from the HSM in ${timeout_ms} ms`));
      }, timeout_ms);
      this.#pending.set(id, { resolve, reject, timer });
      const message: RequestMessage = { id, method, input };
      this.#worker.postMessage(message, transfer);
    });
  }

  /** Ends the worker. A native call that hangs keeps the worker, and the process, from ending: that takes SIGKILL. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #settle(message: ResponseMessage): void {
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    this.#pending.delete(message.id);
    clearTimeout(pending.timer);
    if (message.ok) pending.resolve(message.value as never);
    else pending.reject(fromPlain(message.error));
  }

  #end(cause: unknown): void {
    this.#ended = true;
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(new HsmError("device", "the HSM worker ended", { cause }));
    }
    this.#pending.clear();
  }
}
