/** Lets pieces of asynchronous work happen one after the other, in the order they came. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    // The next one waits for this one's end, not for its success, which is for whoever took the turn.
    this.#last = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }
}
