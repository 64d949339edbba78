import { stringify } from "csv-stringify/sync";
import { randomUUID } from "node:crypto";
import { clock } from "../../clock.js";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import type { LinePosition } from "../lines.js";
import { AppendFile } from "./append-file.js";
import { type ImportProgress, readProgress, removeProgress, writeProgress } from "./progress-file.js";
import { rejectColumns, rejectLines, type RowResult, tokenColumns, tokenLines } from "./result-rows.js";

/** Time between two points that an interrupted import can go on from, milliseconds. */
const checkpoint_ms = 1000;

/**
 * The outputs of an import and how far they are good. Results come in the order of the input; outputs are made durable first and
 * the progress file after them, so that it never promises what is not there.
 */
export class Ledger {
  readonly #out: AppendFile;
  readonly #rejects: AppendFile;
  readonly #progressFile: string | undefined;
  #progress: ImportProgress;
  #saved_ms = clock.monotonic_ms();

  private constructor(out: AppendFile, rejects: AppendFile, progress: ImportProgress, progressFile: string | undefined) {
    this.#out = out;
    this.#rejects = rejects;
    this.#progress = progress;
    this.#progressFile = progressFile;
  }

  /** Opens at the point that `progress` names, and records it. @param progressFile undefined: not resumable */
  static async open(outFile: string, rejectsFile: string, progress: ImportProgress, progressFile: string | undefined): Promise<Ledger> {
    const own = { ...progress, run: randomUUID() };
    if (progressFile !== undefined) await writeProgress(progressFile, own);
    const out = await AppendFile.resume(outFile, progress.out_bytes);
    const rejects = await AppendFile.resume(rejectsFile, progress.rejects_bytes);
    const ledger = new Ledger(out, rejects, own, progressFile);
    if (out.length_bytes === 0) await out.append(stringify([[...tokenColumns]]));
    return ledger;
  }

  get progress(): Readonly<ImportProgress> {
    return this.#progress;
  }

  /** Takes the results of all input up to `position`. */
  async add(results: readonly RowResult[], position: LinePosition): Promise<void> {
    await this.#out.append(tokenLines(results));
    const rejected = rejectLines(results);
    if (rejected !== "" && this.#rejects.length_bytes === 0) await this.#rejects.append(stringify([[...rejectColumns]]));
    await this.#rejects.append(rejected);
    const known = results.filter((result) => "response" in result && result.response.cardKnown).length;
    const rejects = results.filter((result) => "reject" in result).length;
    this.#progress = {
      ...this.#progress,
      lines: position.lines,
      bytes: position.bytes,
      out_bytes: this.#out.length_bytes,
      rejects_bytes: this.#rejects.length_bytes,
      newCards: this.#progress.newCards + results.length - known - rejects,
      knownCards: this.#progress.knownCards + known,
      rejected: this.#progress.rejected + rejects,
    };
    if (clock.monotonic_ms() - this.#saved_ms >= checkpoint_ms) await this.save();
  }

  /** Makes all that was added durable. @throws CommandFailure if the same import was started again meanwhile: it is the other's now */
  async save(): Promise<void> {
    await this.#out.sync();
    await this.#rejects.sync();
    if (this.#progressFile !== undefined) await writeProgress(this.#progressFile, this.#progress, () => this.#requireOwn());
    this.#saved_ms = clock.monotonic_ms();
  }

  async #requireOwn(): Promise<void> {
    if (this.#progressFile === undefined || (await readProgress(this.#progressFile))?.run === this.#progress.run) return;
    throw new CommandFailure(exitCodes.failed, `the same import was started again meanwhile, and goes on there; ${this.#out.path} is whole when that ends`);
  }

  /** To be called when all is done: nothing is left to go on with. */
  async complete(): Promise<void> {
    await this.save();
    if (this.#progressFile !== undefined) await removeProgress(this.#progressFile);
  }

  async close(): Promise<void> {
    await this.#out.close();
    await this.#rejects.close();
  }
}
