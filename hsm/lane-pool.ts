import { fromPlain } from "./errors.js";
import { encodeGroup, takeResults, type Operation } from "./group.js";
import { HsmError } from "./hsm.js";
import type { LaneCalls, Probe } from "./protocol.js";
import { WorkerChannel } from "./worker-channel.js";
import type { Settled } from "../src/batcher.js";

type LaneChannel = WorkerChannel<LaneCalls>;

/** Where the lanes find the token. */
export interface LanePlace {
  readonly library: string;
  readonly provider: string;
  readonly slot: string;
}

/** A key as lanes know it. */
export interface LaneKeyPlace {
  readonly index: number;
  readonly id: string;
  readonly handle: string;
  readonly probe: Probe;
}

/** The main thread's side of all lanes. A lane has one group under way at a time. */
export class LanePool {
  readonly #call_ms: number;
  #lanes: LaneChannel[];
  #free: LaneChannel[];

  constructor(count: number, call_ms: number) {
    this.#call_ms = call_ms;
    this.#lanes = Array.from({ length: count }, newLane);
    this.#free = [...this.#lanes];
  }

  /**
   * Hands a group to a free lane. There must be one: the batcher has as many groups under way as there are lanes.
   * @throws HsmError "timeout" or "device" for the group as a whole; the failures of single operations are in the answer
   */
  async perform(operations: readonly Operation[]): Promise<Settled<Uint8Array>[]> {
    const lane = this.#free.pop();
    if (lane === undefined) throw new HsmError("operation", "no free lane");
    try {
      const request = encodeGroup(operations);
      const answer = await lane.call("group", { bytes: request }, this.#call_ms, [request]);
      const failures = answer.failures.values();
      return takeResults(answer.bytes).map((value): Settled<Uint8Array> => {
        if (value !== undefined) return { ok: true, value };
        const failure = failures.next().value;
        return { ok: false, error: failure === undefined ? new HsmError("operation", "a failure without a reason") : fromPlain(failure) };
      });
    } finally {
      // After a restart the lane may have been replaced.
      if (this.#lanes.includes(lane)) this.#free.push(lane);
    }
  }

  /** Opens the sessions of every lane; a lane whose worker ended gets a new one. */
  async start(place: LanePlace): Promise<void> {
    this.#lanes = this.#lanes.map((lane) => {
      if (!lane.ended) return lane;
      const fresh = newLane();
      this.#free = this.#free.filter((each) => each !== lane);
      this.#free.push(fresh);
      return fresh;
    });
    await this.#all((lane) => lane.call("start", place, this.#call_ms));
  }

  async addKey(key: LaneKeyPlace): Promise<void> {
    await this.#all((lane) => lane.call("addKey", key, this.#call_ms));
  }

  async dropKey(index: number): Promise<void> {
    await this.#all((lane) => lane.call("dropKey", { index }, this.#call_ms));
  }

  /** The known-answer operation in every lane. */
  async check(index: number | undefined): Promise<void> {
    await this.#all((lane) => lane.call("check", { index }, this.#call_ms));
  }

  /** Waits for the groups under way and closes the sessions. A lane that ended, or does not answer, is left as it is. */
  async stop(wait_ms: number): Promise<void> {
    await Promise.allSettled(this.#lanes.map((lane) => lane.call("stop", {}, wait_ms)));
  }

  async terminate(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.terminate()));
  }

  /** Waits for all before it throws what the first one threw, so that nothing is under way afterwards. */
  async #all(work: (lane: LaneChannel) => Promise<unknown>): Promise<void> {
    const outcomes = await Promise.allSettled(this.#lanes.map(work));
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }
}

function newLane(): LaneChannel {
  return new WorkerChannel<LaneCalls>(new URL("./lane-worker.js", import.meta.url), "hsm-lane");
}
