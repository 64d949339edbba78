import { parentPort } from "node:worker_threads";
import { toPlain } from "./errors.js";
import type { Calls, RequestMessage, ResponseMessage } from "./protocol.js";

/** The worker's end of a WorkerChannel: answers each message by the handler of its name. Handlers are synchronous, as PKCS#11 is. */
export function serve<C extends Calls<C>>(handlers: C, transferOf: (value: unknown) => ArrayBuffer[] = () => []): void {
  const port = parentPort;
  if (port === null) throw new Error("this module runs in a worker thread only");
  port.on("message", (message: RequestMessage) => {
    let response: ResponseMessage;
    try {
      const handler = handlers[message.method as keyof C] as (input: never) => unknown;
      response = { id: message.id, ok: true, value: handler(message.input as never) };
    } catch (error) {
      response = { id: message.id, ok: false, error: toPlain(error) };
    }
    port.postMessage(response, response.ok ? transferOf(response.value) : []);
  });
}
