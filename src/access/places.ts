import { Failure } from "../failure.js";

/** So many of one thing at once in this process, whoever asks; one more is refused at once. */
export class Places {
  readonly #limit: string;
  readonly #places_max: number;
  #taken = 0;

  /** @param limit name of the limit, as the configuration has it */
  constructor(limit: string, places_max: number) {
    this.#limit = limit;
    this.#places_max = places_max;
  }

  /**
   * Takes a place. The answer gives it back; calling that twice gives one place back.
   * @throws Failure LIMIT
   */
  enter(): () => void {
    if (this.#taken >= this.#places_max) throw new Failure("LIMIT", "too many of these calls under way; try again", { limit: this.#limit, retryAfter_ms: 1000 });
    this.#taken += 1;
    let inside = true;
    return () => {
      if (inside) this.#taken -= 1;
      inside = false;
    };
  }
}
