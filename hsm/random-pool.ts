import type { Hsm } from "./hsm.js";

const block_bytes = 16_384;

/** Random bytes from the HSM, fetched in blocks, each byte given out once and then erased here. */
export class RandomPool {
  readonly #hsm: Pick<Hsm, "random">;
  #block: Buffer = Buffer.alloc(0);
  #used = 0;
  #fetching: Promise<void> | undefined;

  constructor(hsm: Pick<Hsm, "random">) {
    this.#hsm = hsm;
  }

  /** @param length 1 to 4,096. @throws HsmError */
  async take(length: number): Promise<Buffer> {
    if (!Number.isInteger(length) || length < 1 || length > 4096) throw new RangeError("1 to 4,096 random bytes at once");
    while (this.#block.length - this.#used < length) {
      this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined));
      await this.#fetching;
    }
    const bytes = Buffer.from(this.#block.subarray(this.#used, this.#used + length));
    this.#block.fill(0, this.#used, this.#used + length);
    this.#used += length;
    return bytes;
  }

  /** `length` decimal digits, each equally likely: bytes above 249 are thrown away. */
  async digits(length: number): Promise<string> {
    let digits = "";
    while (digits.length < length) {
      for (const byte of await this.take(length)) {
        if (byte < 250 && digits.length < length) digits += String(byte % 10);
      }
    }
    return digits;
  }

  async #fetch(): Promise<void> {
    this.#block = Buffer.from(await this.#hsm.random(block_bytes));
    this.#used = 0;
  }
}
