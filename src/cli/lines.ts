/** One line of a file. */
export interface FileLine {
  /** From 1. */
  readonly number: number;
  /** Its bytes, without line feed and carriage return; empty if it was too long. */
  readonly bytes: Buffer;
  /** Offset of the byte after its line feed. */
  readonly end: number;
  /** Longer than the limit; its content was not kept. */
  readonly tooLong: boolean;
}

/** A place between two lines. */
export interface LinePosition {
  /** Lines before. */
  readonly lines: number;
  /** Bytes before. */
  readonly bytes: number;
}

const lineFeed = 0x0a;
const carriageReturn = 0x0d;

/** How lines are read. */
export interface LineOptions {
  /** Where the stream begins in its file; default: at its beginning. */
  readonly start?: LinePosition;
  /** A carriage return before the line feed belongs to the line. */
  readonly keepReturn?: boolean;
}

/**
 * Splits bytes into lines, many at a time, in memory bounded by the limit and the chunk size. A last line without a line feed is a
 * line; nothing after a line feed is none.
 * @param length_max most bytes of one line
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  length_max: number,
  { start = { lines: 0, bytes: 0 }, keepReturn = false }: LineOptions = {},
): AsyncGenerator<FileLine[], void, undefined> {
  let number = start.lines;
  let offset = start.bytes;
  let rest: Buffer[] = [];
  let rest_bytes = 0;
  let skipping = false;
  const take = (piece: Buffer, end: number): FileLine => {
    const whole = rest.length === 0 ? piece : Buffer.concat([...rest, piece]);
    const bytes = keepReturn ? whole : withoutReturn(whole);
    const tooLong = skipping || bytes.length > length_max;
    [rest, rest_bytes, skipping] = [[], 0, false];
    number += 1;
    return { number, bytes: tooLong ? Buffer.alloc(0) : bytes, end, tooLong };
  };
  for await (const chunk of chunks) {
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const lines: FileLine[] = [];
    let from = 0;
    for (let at = buffer.indexOf(lineFeed); at !== -1; at = buffer.indexOf(lineFeed, from)) {
      lines.push(take(buffer.subarray(from, at), offset + at + 1));
      from = at + 1;
    }
    const tail = buffer.subarray(from);
    if (tail.length > 0) {
      rest_bytes += tail.length;
      if (rest_bytes > length_max + 1) [rest, skipping] = [[], true];
      else rest.push(Buffer.from(tail));
    }
    offset += buffer.length;
    if (lines.length > 0) yield lines;
  }
  if (rest_bytes > 0) yield [take(Buffer.alloc(0), offset)];
}

function withoutReturn(line: Buffer): Buffer {
  return line.at(-1) === carriageReturn ? line.subarray(0, -1) : line;
}
