import { CommanderError } from "commander";
import { describeError } from "../log.js";
import { CommandFailure, explain } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";
import { buildProgram } from "./program.js";
import type { Shell } from "./shell.js";

/** How the command line is run. */
export interface RunOptions {
  readonly version: string;
  /** Tell the whole error with its causes and stacks too, for debugging. */
  readonly debug: boolean;
}

/** Runs one command line. Never throws: what went wrong is one line on stderr and the exit code. @param words after `cardex` */
export async function run(shell: Shell, words: readonly string[], options: RunOptions): Promise<number> {
  const exitCode = await runCommand(shell, words, options);
  await shell.flush();
  if (shell.outputFailure === undefined) return exitCode;
  shell.tell(`cardex: ${explain(Object.assign(shell.outputFailure, { path: "the output" })).message}`);
  return exitCodes.failed;
}

async function runCommand(shell: Shell, words: readonly string[], options: RunOptions): Promise<number> {
  try {
    await buildProgram(shell, options.version).parseAsync(words, { from: "user" });
    return shell.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    // Nobody reads any more: as for other tools in a pipe, no reason to complain.
    if (shell.readerGone) return exitCodes.ok;
    if (shell.outputFailure !== undefined) return exitCodes.failed;
    const failure = shell.signal.aborted ? new CommandFailure(exitCodes.interrupted, "interrupted", error) : explain(error);
    shell.tell(`cardex: ${failure.message}`);
    if (options.debug) shell.tell(JSON.stringify(describeError(failure.cause ?? failure), undefined, 2));
    return failure.exitCode;
  }
}
