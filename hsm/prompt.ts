import type { ReadStream, WriteStream } from "node:tty";
import { HsmError } from "./hsm.js";

/** A terminal to ask at. */
export interface Terminal {
  readonly input: Pick<ReadStream, "isTTY" | "setRawMode" | "resume" | "pause" | "on" | "off">;
  readonly output: Pick<WriteStream, "write">;
}

/**
 * Asks for one line without showing it.
 * @throws HsmError "login" on Ctrl-C, Ctrl-D and end of input
 */
export function promptHidden({ input, output }: Terminal, question: string): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    let typed = "";
    const end = (settle: () => void): void => {
      input.off("data", take);
      input.setRawMode(false);
      input.pause();
      output.write("\n");
      settle();
    };
    const take = (chunk: Buffer): void => {
      for (const character of chunk.toString("utf8")) {
        if (character === "\r" || character === "\n") return end(() => resolve(typed));
        if (character === "\u0003" || character === "\u0004") return end(() => reject(new HsmError("login", "no PIN was given")));
        typed = character === "\u007f" || character === "\b" ? typed.slice(0, -1) : typed + character;
      }
    };
    output.write(question);
    input.setRawMode(true);
    input.on("data", take);
    input.resume();
  });
}
