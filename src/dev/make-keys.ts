import { fork } from "node:child_process";
import { environment } from "../config.js";
import { Obstacle } from "./obstacle.js";
import type { KeysAnswer, KeysOrder } from "./make-keys-child.js";

/** Time to make the keys of an installation: some 10 ms each on SoftHSM. */
const make_ms = 60_000;

/**
 * What `cardex keys init` and `cardex tenants add` do, in a process of its own, because a PKCS#11 library belongs to a process as
 * a whole. Makes only what is missing.
 * @returns labels of the keys that were made
 * @throws Obstacle
 */
export function makeKeys(order: KeysOrder): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const child = fork(new URL("./make-keys-child.js", import.meta.url), [], {
      // The owner's URL goes as a message: the environment and the arguments of a process can be read by others.
      env: { PATH: environment.get("PATH") },
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      timeout: make_ms,
      killSignal: "SIGKILL",
    });
    let answer: KeysAnswer | undefined;
    child.on("message", (message) => {
      answer = message as KeysAnswer;
      child.disconnect();
    });
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      if (answer?.made !== undefined) resolve(answer.made);
      else reject(new Obstacle(`the keys can't be made: ${answer?.problem ?? `the process ended without an answer (${signal ?? code ?? "unknown"})`}`));
    });
    child.send(order);
  });
}
