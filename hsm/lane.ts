import { Module, SessionObject, Slot } from "graphene-pk11";
import { ckrOf, classify, toHsmError, toPlain } from "./errors.js";
import type { Operation, Result } from "./group.js";
import { HsmError } from "./hsm.js";
import { isTokenObject, readAttributes } from "./key-object.js";
import { answersProbe, decrypt, encrypt, mac, random, sign, type Place } from "./operations.js";
import { profileOf, type Profile } from "./profiles.js";
import type { PlainError, Probe } from "./protocol.js";
import { attributeFaults } from "./templates.js";

interface LaneKey {
  readonly id: string;
  readonly probe: Probe;
  /** Handle of the token object. */
  readonly original: Buffer;
  /** A session-object copy; undefined where the profile has none. */
  copy: SessionObject | undefined;
}

/** What operations use. */
function handleOf({ original, copy }: LaneKey): Buffer {
  return copy?.handle ?? original;
}

/**
 * One lane, inside its worker thread: two sessions, the second one for operations, thrown away after each error; the first owns the copies
 * of keys, which end with the session that made them.
 */
export class Lane {
  readonly #profile: Profile;
  readonly #slot: Slot;
  readonly #keys = new Map<number, LaneKey>();
  #keeper: Place;
  #place: Place;

  /** @throws HsmError */
  constructor(library: string, provider: string, slot: string) {
    this.#profile = profileOf(provider);
    this.#slot = this.#try("C_GetSlotInfo", () => {
      const module = Module.load(library);
      return new Slot(Buffer.from(slot, "hex"), module, module.lib);
    });
    this.#keeper = this.#open();
    this.#place = this.#open();
  }

  /** In place of the key that had this index before. @throws HsmError */
  addKey(index: number, id: string, handle: string, probe: Probe): void {
    const key: LaneKey = { id, probe, original: Buffer.from(handle, "hex"), copy: undefined };
    try {
      this.#copy(key);
      if (!answersProbe(this.#place, handleOf(key), probe)) throw new HsmError("key", `key ${id}: a lane's copy is another key`);
    } catch (error) {
      this.#renew();
      throw toHsmError("open key in a lane", error, this.#profile);
    }
    const before = this.#keys.get(index);
    this.#keys.set(index, key);
    this.#try("C_DestroyObject", () => before?.copy?.destroy());
  }

  dropKey(index: number): void {
    const key = this.#keys.get(index);
    this.#keys.delete(index);
    this.#try("C_DestroyObject", () => key?.copy?.destroy());
  }

  /** The known-answer operation. @throws HsmError */
  check(index: number | undefined): void {
    const key = index === undefined ? undefined : this.#keys.get(index);
    try {
      if (key === undefined) this.#slot.lib.C_GetSessionInfo(this.#place.session.handle);
      else if (!answersProbe(this.#place, handleOf(key), key.probe)) throw new HsmError("key", "known-answer operation: another answer");
    } catch (error) {
      const failure = toHsmError("known-answer operation", error, this.#profile);
      this.#renew();
      throw failure;
    }
  }

  /** Performs a group in order. After a device error the rest is not tried: each call could take long. */
  perform(operations: readonly Operation[]): { results: Result[]; failures: PlainError[] } {
    const results: Result[] = [];
    const failures: PlainError[] = [];
    let broken: PlainError | undefined;
    for (const operation of operations) {
      if (broken === undefined) {
        try {
          results.push(this.#attempt(operation));
          continue;
        } catch (error) {
          const failure = toPlain(error);
          failures.push(failure);
          if (failure.errorClass === "device") broken = failure;
        }
      } else failures.push(broken);
      results.push(undefined);
    }
    return { results, failures };
  }

  /** Closes the sessions, and with the first one the copies. */
  stop(): void {
    this.#keys.clear();
    this.#close(this.#place);
    this.#close(this.#keeper);
  }

  #attempt(operation: Operation): Buffer {
    try {
      return this.#call(operation);
    } catch (error) {
      const failure = this.#judge(operation, error);
      if (failure.errorClass === "session") this.#replaceSessions();
      // A code that could mean anything is no proof yet that a stored card is broken: only a second one, in a fresh session, is.
      else if (failure.errorClass !== "integrity" || !this.#isAmbiguous(error)) throw failure;
    }
    try {
      return this.#call(operation);
    } catch (error) {
      throw this.#judge(operation, error);
    }
  }

  #call({ kind, key, a, b }: Operation): Buffer {
    const data = Buffer.from(a.buffer, a.byteOffset, a.byteLength);
    if (kind === "random") return random(this.#place, data.readUInt32LE(0));
    const found = this.#keys.get(key);
    if (found === undefined) throw new HsmError("operation", `${kind}: the key is not open`);
    const handle = handleOf(found);
    if (kind === "mac") return mac(this.#place, handle, data);
    if (kind === "sign") return sign(this.#place, handle, data);
    const aad = Buffer.from(b.buffer, b.byteOffset, b.byteLength);
    return kind === "encrypt" ? encrypt(this.#place, handle, data, aad) : decrypt(this.#place, handle, data, aad);
  }

  /** What an error of an operation means. Leaves a fresh session behind, for the old one may be stuck in an operation for good. */
  #judge(operation: Operation, error: unknown): HsmError {
    if (error instanceof HsmError && error.errorClass !== "device") return error;
    this.#renew();
    const failure = toHsmError(operation.kind, error, this.#profile);
    if (!this.#isAmbiguous(error)) return failure;
    const works = this.#answers(operation.key);
    const errorClass = works ? (operation.kind === "decrypt" ? "integrity" : "operation") : "device";
    return toHsmError(operation.kind, error, this.#profile, errorClass);
  }

  #isAmbiguous(error: unknown): boolean {
    return classify(ckrOf(error), this.#profile) === "ambiguous";
  }

  #answers(index: number): boolean {
    const key = this.#keys.get(index);
    if (key === undefined) return false;
    try {
      if (answersProbe(this.#place, handleOf(key), key.probe)) return true;
    } catch {
      // Whatever it was: the token does not do what it did before, and that is the answer.
    }
    this.#renew();
    return false;
  }

  /** A copy of the token object as a session object, held to the same attributes. */
  #copy(key: LaneKey): void {
    const { kind } = key.probe;
    if (!this.#profile.sessionCopies.includes(kind)) return;
    const { session } = this.#keeper;
    const copy = session.copy(new SessionObject(key.original, session, session.lib), { token: false });
    const faults = attributeFaults(readAttributes(copy, kind));
    if (isTokenObject(copy)) faults.push("CKA_TOKEN is true");
    if (faults.length > 0) throw new HsmError("key", `copy of key ${key.id}: ${faults.join(", ")}`);
    key.copy = copy;
  }

  #open(): Place {
    return { session: this.#try("C_OpenSession", () => this.#slot.open()), profile: this.#profile };
  }

  /** A fresh session for operations. */
  #renew(): void {
    const old = this.#place;
    this.#place = this.#open();
    this.#close(old);
  }

  /** Both sessions fresh, and the copies with them. @throws HsmError "device": if that does not work, the token is gone */
  #replaceSessions(): void {
    const old = [this.#place, this.#keeper];
    try {
      this.#keeper = this.#open();
      this.#place = this.#open();
      for (const key of this.#keys.values()) this.#copy(key);
    } catch (error) {
      throw new HsmError("device", "the lane's sessions can't be replaced", { ckr: ckrOf(error), cause: error });
    }
    for (const place of old) this.#close(place);
  }

  #close({ session }: Place): void {
    try {
      session.close();
    } catch (error) {
      // A session that is gone already is what was wanted; anything else shows at the next call, too.
      if (classify(ckrOf(error), this.#profile) === "operation") throw toHsmError("C_CloseSession", error, this.#profile);
    }
  }

  #try<T>(what: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toHsmError(what, error, this.#profile);
    }
  }
}
