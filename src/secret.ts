import { inspect } from "node:util";

/**
 * A string that must not be printed: a PIN, a password. Its every string form is "[secret]"; `open()` is the one way to the
 * value, and can be searched for.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value. Keep it no longer than the call that needs it. */
  open(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
