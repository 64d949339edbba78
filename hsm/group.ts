/**
 * A group of operations as one ArrayBuffer that moves between threads: no copy by the runtime, and nothing of the pool that small
 * Buffers share goes along. All numbers are little-endian uint32.
 *
 * Request: count, then for each operation: kind, key, length of `a`, length of `b`, bytes of `a`, bytes of `b`.
 * Answer: count, then for each operation: 0 (done) or 1 (failed), length, bytes.
 */

export type OperationKind = "encrypt" | "decrypt" | "mac" | "sign" | "random";

/** One operation. `random` wants its length in bytes as `a`, a little-endian uint32. */
export interface Operation {
  readonly kind: OperationKind;
  /** Index of the key in the lanes; 0 for `random`. */
  readonly key: number;
  /** Plaintext, sealed text, data, or length. */
  readonly a: Uint8Array;
  /** Associated data of `encrypt` and `decrypt`; empty otherwise. */
  readonly b: Uint8Array;
}

const kinds: readonly OperationKind[] = ["encrypt", "decrypt", "mac", "sign", "random"];

/** What came of one operation in a lane: its bytes, or nothing where it failed. */
export type Result = Uint8Array | undefined;

export function encodeGroup(operations: readonly Operation[]): ArrayBuffer {
  const length = operations.reduce((sum, each) => sum + 16 + each.a.length + each.b.length, 4);
  const bytes = new ArrayBuffer(length);
  const view = new DataView(bytes);
  const target = new Uint8Array(bytes);
  view.setUint32(0, operations.length, true);
  let at = 4;
  for (const { kind, key, a, b } of operations) {
    view.setUint32(at, kinds.indexOf(kind), true);
    view.setUint32(at + 4, key, true);
    view.setUint32(at + 8, a.length, true);
    view.setUint32(at + 12, b.length, true);
    target.set(a, at + 16);
    target.set(b, at + 16 + a.length);
    at += 16 + a.length + b.length;
  }
  return bytes;
}

/** Views into `bytes`, not copies. */
export function decodeGroup(bytes: ArrayBuffer): Operation[] {
  const view = new DataView(bytes);
  const operations: Operation[] = [];
  let at = 4;
  for (let i = view.getUint32(0, true); i > 0; i -= 1) {
    const kind = kinds[view.getUint32(at, true)];
    if (kind === undefined) throw new Error("group of operations: unknown kind");
    const a_bytes = view.getUint32(at + 8, true);
    const b_bytes = view.getUint32(at + 12, true);
    operations.push({
      kind,
      key: view.getUint32(at + 4, true),
      a: new Uint8Array(bytes, at + 16, a_bytes),
      b: new Uint8Array(bytes, at + 16 + a_bytes, b_bytes),
    });
    at += 16 + a_bytes + b_bytes;
  }
  return operations;
}

export function encodeResults(results: readonly Result[]): ArrayBuffer {
  const length = results.reduce((sum, each) => sum + 8 + (each?.length ?? 0), 4);
  const bytes = new ArrayBuffer(length);
  const view = new DataView(bytes);
  const target = new Uint8Array(bytes);
  view.setUint32(0, results.length, true);
  let at = 4;
  for (const result of results) {
    view.setUint32(at, result === undefined ? 1 : 0, true);
    view.setUint32(at + 4, result?.length ?? 0, true);
    if (result !== undefined) target.set(result, at + 8);
    at += 8 + (result?.length ?? 0);
  }
  return bytes;
}

/** Copies the results out and clears `bytes`, which may hold plaintext of several callers. */
export function takeResults(bytes: ArrayBuffer): Result[] {
  const view = new DataView(bytes);
  const results: Result[] = [];
  let at = 4;
  for (let i = view.getUint32(0, true); i > 0; i -= 1) {
    const length = view.getUint32(at + 4, true);
    results.push(view.getUint32(at, true) === 0 ? new Uint8Array(bytes, at + 8, length).slice() : undefined);
    at += 8 + length;
  }
  new Uint8Array(bytes).fill(0);
  return results;
}
