import { CommandFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";
import type { Shell } from "./shell.js";

const enter = new Set(["\r", "\n"]);
const erase = new Set(["\u007f", "\b"]);
const end = "\u0004";
const interrupt = "\u0003";

/** Asks on the terminal for one line without showing it. @throws CommandFailure if the user interrupts */
export async function askHidden(shell: Shell, question: string): Promise<string> {
  const stdin = shell.streams.stdin as NodeJS.ReadStream;
  shell.streams.stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding("utf8");
  let answer = "";
  try {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false })) {
      for (const key of String(chunk)) {
        if (key === interrupt) throw new CommandFailure(exitCodes.interrupted, "interrupted");
        if (enter.has(key) || key === end) return answer;
        answer = erase.has(key) ? answer.slice(0, -1) : answer + key;
      }
    }
    return answer;
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    shell.streams.stderr.write("\n");
  }
}
