import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

/** How often watched files are looked at, in milliseconds. */
const defaultInterval_ms = 1000;

export interface WatchedFilesOptions {
  /** Default 1000. */
  readonly interval_ms?: number;
  /** Told when the files can't be read or were refused; the contents used before stay in use. */
  readonly onRefused: (error: unknown) => void;
}

/**
 * A few files that are used together (a certificate and its key) and taken into use again when any of them changes. Contents are
 * compared, not times, so that renames, links and mounted volumes work alike.
 */
export class WatchedFiles {
  readonly #files: readonly string[];
  readonly #use: (contents: readonly Buffer[]) => void | Promise<void>;
  readonly #onRefused: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #seen = "";
  #looking: Promise<void> | undefined;

  private constructor(files: readonly string[], use: (contents: readonly Buffer[]) => void | Promise<void>, options: WatchedFilesOptions) {
    this.#files = files;
    this.#use = use;
    this.#onRefused = options.onRefused;
    this.#timer = setInterval(() => void this.look(), options.interval_ms ?? defaultInterval_ms).unref();
  }

  /**
   * Reads the files, hands their contents (in the order of `files`) to `use`, and again after each change.
   * @throws what reading them or `use` throws the first time
   */
  static async open(files: readonly string[], use: (contents: readonly Buffer[]) => void | Promise<void>, options: WatchedFilesOptions): Promise<WatchedFiles> {
    const watched = new WatchedFiles(files, use, options);
    try {
      await watched.#take();
    } catch (error) {
      watched.close();
      throw error;
    }
    return watched;
  }

  /** Looks now. Never throws: what goes wrong goes to `onRefused`, once for each content. */
  async look(): Promise<void> {
    this.#looking ??= this.#take()
      .catch(this.#onRefused)
      .finally(() => {
        this.#looking = undefined;
      });
    await this.#looking;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #take(): Promise<void> {
    let contents: Buffer[];
    try {
      contents = await Promise.all(this.#files.map((file) => readFile(file)));
    } catch (error) {
      const code = String((error as NodeJS.ErrnoException).code);
      if (this.#seen === code) return;
      this.#seen = code;
      throw error;
    }
    const hash = createHash("sha256");
    for (const content of contents) hash.update(`${content.length}:`).update(content);
    const seen = hash.digest("hex");
    if (seen === this.#seen) return;
    this.#seen = seen;
    await this.#use(contents);
  }
}
