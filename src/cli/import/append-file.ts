import { type FileHandle, open, rm } from "node:fs/promises";

/** A file that only grows, from a known length on. Made when the first bytes come; mode 0600. */
export class AppendFile {
  readonly path: string;
  #handle: FileHandle | undefined;
  #length_bytes: number;

  private constructor(path: string, length_bytes: number, handle?: FileHandle) {
    this.path = path;
    this.#length_bytes = length_bytes;
    this.#handle = handle;
  }

  /**
   * Goes on at `length_bytes`; cuts off what lies behind it. At 0 the file is removed, and made anew when it is needed.
   * @throws the error of the file system; RangeError if the file is shorter than that
   */
  static async resume(path: string, length_bytes: number): Promise<AppendFile> {
    if (length_bytes === 0) {
      await rm(path, { force: true });
      return new AppendFile(path, 0);
    }
    const handle = await open(path, "r+");
    const { size } = await handle.stat();
    if (size < length_bytes) {
      await handle.close();
      throw new RangeError(`${path} is shorter than its progress file says`);
    }
    await handle.truncate(length_bytes);
    return new AppendFile(path, length_bytes, handle);
  }

  get length_bytes(): number {
    return this.#length_bytes;
  }

  async append(text: string): Promise<void> {
    if (text === "") return;
    const handle = await this.#opened();
    const bytes = Buffer.from(text);
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, this.#length_bytes + written);
      written += bytesWritten;
    }
    this.#length_bytes += bytes.length;
  }

  /** Makes the file where nothing was appended. */
  async make(): Promise<void> {
    await this.#opened();
  }

  /** Makes what was appended durable. */
  async sync(): Promise<void> {
    await this.#handle?.datasync();
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
  }

  async #opened(): Promise<FileHandle> {
    this.#handle ??= await open(this.path, "wx", 0o600);
    return this.#handle;
  }
}
