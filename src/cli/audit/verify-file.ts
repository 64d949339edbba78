import { createReadStream } from "node:fs";
import { type ChainProblem, ChainVerifier, entryLine_bytes_max } from "../../audit/verify-chain.js";
import { readLines } from "../lines.js";

/**
 * Hands every line of a file to a verifier, each problem to `tell`.
 * @param length_bytes read only so far; default: the whole file
 * @returns the verifier, to go on with or to finish
 */
export async function verifyFile(file: string, tell: (problem: ChainProblem) => void, length_bytes?: number): Promise<ChainVerifier> {
  const verifier = new ChainVerifier();
  if (length_bytes === 0) return verifier;
  const chunks = createReadStream(file, length_bytes === undefined ? {} : { end: length_bytes - 1 });
  for await (const line of exactLines(chunks)) {
    const problem = verifier.accept(line);
    if (problem !== undefined) tell(problem);
  }
  return verifier;
}

/** Lines as they are: a carriage return belongs to the line, and a line that is too long stays so. */
async function* exactLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
  const tooLong = Buffer.alloc(entryLine_bytes_max + 1);
  for await (const lines of readLines(chunks, entryLine_bytes_max, { keepReturn: true })) {
    for (const line of lines) yield line.tooLong ? tooLong : line.bytes;
  }
}

/** A problem as one line for people. */
export function problemLine(file: string, problem: ChainProblem): string {
  const where = problem.line === undefined ? "at the end" : `line ${problem.line}`;
  return `${file}: ${where}: ${problem.stream === undefined ? "" : `stream ${problem.stream}: `}${problem.message}`;
}
