import { Module, ObjectClass, SessionFlag, TokenFlag, type Session, type Slot, type Token } from "graphene-pk11";
import pkcs11 from "pkcs11js";
import { ckrOf, classify, toHsmError } from "./errors.js";
import { HsmError, type KeyDescription, type KeyKind, type KeyName } from "./hsm.js";
import { describe, destroy, findKey, findKeys, generate, isTokenObject, kindOf } from "./key-object.js";
import { answersProbe, makeProbe, random, type Place } from "./operations.js";
import { profileOf, type Profile } from "./profiles.js";
import type { ControlCalls, FoundKey, Probe, TokenPlace } from "./protocol.js";
import { attributeFaults } from "./templates.js";
import { serve } from "./worker-server.js";

/** State of a read-write session while the user is logged in (PKCS#11 v2.40, 3.3), which has no name in graphene. */
const CKS_RW_USER_FUNCTIONS = 3;

/** The control worker: everything that happens once a process, or once a key. One session, read-write. */
class Control {
  #module: Module | undefined;
  #profile: Profile = profileOf("softhsm2");
  #slot: Slot | undefined;
  #session: Session | undefined;

  initialize({ library, provider, tokenLabel }: { library: string; provider: string; tokenLabel: string }): TokenPlace {
    this.#profile = profileOf(provider);
    const module = this.#load(library);
    // One that is initialized already may be so without the flag, and graphene would say nothing.
    this.finalize();
    // Without this flag SoftHSM locks nothing, and lanes would crash the process (PKCS#11 v2.40, 5.4 C_Initialize).
    this.#try("C_Initialize", () => module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK }));
    const [found, ...more] = this.#try("C_GetTokenInfo", () => tokensLabelled(module, tokenLabel));
    if (found === undefined) throw new HsmError("device", `no token labelled "${tokenLabel}" in ${library}`);
    if (more.length > 0) throw new HsmError("device", `${more.length + 1} tokens are labelled "${tokenLabel}" in ${library}`);
    const { slot, token } = found;
    this.#try("C_GetMechanismList", () => this.#requireMechanisms(slot));
    this.#slot = slot;
    this.#session = this.#open(slot);
    return { serial: token.serialNumber.trim(), slot: slot.handle.toString("hex") };
  }

  login({ pin }: { pin: string }): boolean {
    const { session } = this.#at();
    try {
      session.login(pin);
      return true;
    } catch (error) {
      const ckr = ckrOf(error);
      if (ckr === "CKR_USER_ALREADY_LOGGED_IN") return true;
      if (classify(ckr, this.#profile) === "login") return false;
      throw toHsmError("C_Login", error, this.#profile);
    }
  }

  openKey({ before, ...name }: KeyName & { before: Probe | undefined }): FoundKey {
    return this.#read("open key", (place) => {
      const object = findKey(place.session, name);
      const description = describe(place, object, name.kind);
      const faults = attributeFaults(description);
      if (faults.length > 0) throw new HsmError("key", `key ${name.id} (${name.kind}): ${faults.join(", ")}`);
      if (!isTokenObject(object)) throw new HsmError("key", `key ${name.id} is not a token object`);
      const { handle } = object;
      const probe = makeProbe(place, name.kind, handle, description.publicKey);
      if (before !== undefined && !stillAnswers(place, handle, before)) throw new HsmError("key", `key ${name.id} is another key than before`);
      return { handle: handle.toString("hex"), description, probe };
    });
  }

  describeKey(name: KeyName): KeyDescription {
    return this.#read("describe key", (place) => describe(place, findKey(place.session, name), name.kind));
  }

  listKeys(): KeyDescription[] {
    return this.#read("list keys", (place) =>
      [ObjectClass.SECRET_KEY, ObjectClass.PRIVATE_KEY]
        .flatMap((objectClass) => findKeys(place.session, objectClass))
        .flatMap((object) => {
          const kind = kindOf(object, place.profile);
          return kind === undefined ? [] : [describe(place, object, kind)];
        }),
    );
  }

  check(input: { handle: string; probe: Probe } | { handle: undefined }): true {
    return this.#read("known-answer operation", (place) => {
      if (input.handle !== undefined && !answersProbe(place, Buffer.from(input.handle, "hex"), input.probe)) {
        throw new HsmError("key", "known-answer operation: another answer");
      }
      return true;
    });
  }

  generateKey({ kind, label }: { kind: KeyKind; label: string }): KeyDescription {
    return this.#withSession("C_GenerateKey", (place) => describe(place, generate(place, kind, random(place, 16), label), kind));
  }

  destroyKey(name: KeyName): true {
    return this.#withSession("C_DestroyObject", ({ session }) => {
      destroy(session, name);
      return true;
    });
  }

  finalize(): true {
    this.#session = undefined;
    try {
      this.#module?.finalize();
    } catch (error) {
      if (ckrOf(error) !== "CKR_CRYPTOKI_NOT_INITIALIZED") throw toHsmError("C_Finalize", error, this.#profile);
    }
    return true;
  }

  #load(path: string): Module {
    try {
      this.#module ??= Module.load(path);
      return this.#module;
    } catch (error) {
      throw new HsmError("device", `PKCS#11 library ${path} can't be loaded: is it installed, for this processor?`, { cause: error });
    }
  }

  #requireMechanisms({ lib, handle }: Slot): void {
    const there = new Set(lib.C_GetMechanismList(handle));
    const missing = Object.entries(this.#profile.mechanisms).filter(([, mechanism]) => !there.has(mechanism));
    if (missing.length === 0) return;
    throw new HsmError("operation", `the token lacks ${missing.map(([name]) => name).join(", ")}, which Cardex needs`);
  }

  /** An empty answer of C_FindObjects means nothing while nobody is logged in: private objects are not found then. */
  #requireLogin({ session: { lib, handle, slot } }: Place): void {
    if (lib.C_GetSessionInfo(handle).state !== CKS_RW_USER_FUNCTIONS) throw new HsmError("device", "nobody is logged in to the token");
    slot.getToken();
  }

  #at(): Place {
    if (this.#session === undefined) throw new HsmError("device", "the HSM is not initialized");
    return { session: this.#session, profile: this.#profile };
  }

  #open(slot: Slot | undefined): Session {
    if (slot === undefined) throw new HsmError("device", "the HSM is not initialized");
    return this.#try("C_OpenSession", () => slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION));
  }

  /** What may be done twice: if the session was at fault, once more in a new one. */
  #read<T>(what: string, work: (place: Place) => T): T {
    try {
      return this.#withSession(what, work);
    } catch (error) {
      if (!(error instanceof HsmError) || error.errorClass !== "session") throw error;
      return this.#withSession(what, work);
    }
  }

  /** Runs `work` while logged in; after any error the session is replaced, the new one opened first, so that the login never lapses with the last one. */
  #withSession<T>(what: string, work: (place: Place) => T): T {
    const place = this.#at();
    try {
      this.#requireLogin(place);
      return work(place);
    } catch (error) {
      const failure = toHsmError(what, error, this.#profile);
      this.#session = this.#open(this.#slot);
      this.#try("C_CloseSession", () => {
        try {
          place.session.close();
        } catch (closing) {
          if (classify(ckrOf(closing), this.#profile) !== "session") throw closing;
        }
      });
      throw failure;
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

function tokensLabelled(module: Module, label: string): { slot: Slot; token: Token }[] {
  return [...module.getSlots(true)]
    .map((slot) => ({ slot, token: slot.getToken() }))
    .filter(({ token }) => (token.flags & TokenFlag.TOKEN_INITIALIZED) !== 0 && token.label === label);
}

/** Whether a key that works gives the answer that it gave before. */
function stillAnswers(place: Place, handle: Buffer, before: Probe): boolean {
  try {
    return answersProbe(place, handle, before);
  } catch (error) {
    // It worked a moment ago: a code that could also mean a failed token means that the ciphertext is not of this key.
    if (classify(ckrOf(error), place.profile) === "ambiguous") return false;
    throw error;
  }
}

const control = new Control();
serve<ControlCalls>({
  initialize: (input) => control.initialize(input),
  login: (input) => control.login(input),
  openKey: (input) => control.openKey(input),
  describeKey: (input) => control.describeKey(input),
  listKeys: () => control.listKeys(),
  check: (input) => control.check(input),
  generateKey: (input) => control.generateKey(input),
  destroyKey: (input) => control.destroyKey(input),
  finalize: () => control.finalize(),
});
