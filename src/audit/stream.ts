import { v7 as uuidv7 } from "uuid";
import type { EntryRow, HeadMove, HeadRow } from "../store/audit.js";
import { chainStart, type EntryDraft, entryLine, lineHash } from "./entry.js";

interface Head {
  readonly seq: number;
  readonly hash: Buffer;
}

const start: Head = { seq: 0, hash: Buffer.from(chainStart, "hex") };

/** Lines in their places, and where the heads go if they are committed. */
export interface Placed {
  readonly rows: readonly EntryRow[];
  readonly moves: readonly HeadMove[];
}

/**
 * One writer's stream: in every log that it writes to, a contiguous sequence and a hash chain of its own. The heads here move only
 * when a commit is known.
 */
export class AuditStream {
  readonly id = uuidv7();
  readonly kind: HeadMove["kind"];
  readonly #heads = new Map<string, Head>();

  constructor(kind: HeadMove["kind"]) {
    this.kind = kind;
  }

  /** Gives each draft its place after the heads. */
  place(drafts: readonly EntryDraft[], at: Date): Placed {
    const heads = new Map<string, Head>();
    const rows = drafts.map((draft): EntryRow => {
      const head = heads.get(draft.log) ?? this.#heads.get(draft.log) ?? start;
      const seq = head.seq + 1;
      const line = entryLine(draft, { stream: this.id, seq, prev: head.hash.toString("hex"), time: at });
      heads.set(draft.log, { seq, hash: lineHash(line) });
      return { log: draft.log, stream: this.id, seq, at, line };
    });
    const moves = [...heads].map(([log, head]): HeadMove => {
      const old = this.#heads.get(log) ?? start;
      return { log, stream: this.id, kind: this.kind, oldSeq: old.seq, oldHash: old.hash, ...head };
    });
    return { rows, moves };
  }

  /** The lines were committed. */
  advance(moves: readonly HeadMove[]): void {
    for (const move of moves) this.#heads.set(move.log, { seq: move.seq, hash: move.hash });
  }

  /**
   * Whether the committed heads are those after the moves (true), or those before (false).
   * @throws Error if they are neither
   */
  committed(moves: readonly HeadMove[], heads: readonly (HeadRow & { log: string })[]): boolean {
    const verdicts = moves.map((move) => {
      const head = heads.find((each) => each.log === move.log);
      if (head !== undefined && head.seq === move.seq && head.hash.equals(move.hash)) return true;
      if ((head?.seq ?? 0) === move.oldSeq && (head?.hash ?? start.hash).equals(move.oldHash)) return false;
      throw new Error(`the head of the stream in log ${move.log} is neither where it was nor where it went`);
    });
    const first = verdicts[0] ?? false;
    if (verdicts.some((verdict) => verdict !== first)) throw new Error("the heads of one commit moved in part");
    return first;
  }
}
