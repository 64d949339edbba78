import { fork } from "node:child_process";
import { once } from "node:events";
import type { HsmOptions } from "../../hsm/options.js";
import type { SecondProcessOrder } from "../../hsm/second-process.js";

/** Has work done on a token by another process, and waits for its end. @throws Error if it failed */
export async function workInSecondProcess(options: HsmOptions, work: SecondProcessOrder["work"]): Promise<Record<string, string>> {
  const child = fork(new URL("../../hsm/second-process.js", import.meta.url), { execArgv: [] });
  const order: SecondProcessOrder = { options: { ...options, pin: options.pin.open() }, work };
  const exit = once(child, "exit");
  child.send(order);
  const [answer] = (await Promise.race([once(child, "message"), exit])) as [Record<string, string> | number | null];
  if (typeof answer !== "object" || answer === null) throw new Error("the second process ended without an answer");
  child.disconnect();
  await exit;
  if (answer["failure"] !== undefined) throw new Error(`the second process failed: ${answer["failure"]}`);
  return answer;
}
