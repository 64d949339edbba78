import pkcs11 from "pkcs11js";
import { ckrOf, classify, toHsmError } from "./errors.js";
import { HsmError, type KeyDescription, type KeyKind, type KeyName } from "./hsm.js";
import { describe, findKey, findKeys, isTokenObject, kindOf } from "./key-object.js";
import { answersProbe, makeProbe, random, type Place } from "./operations.js";
import { profileOf, type Profile } from "./profiles.js";
import type { ControlCalls, FoundKey, Probe, TokenPlace } from "./protocol.js";
import { attributeFaults, classOf, keyPairTemplates, secretKeyTemplate } from "./templates.js";
import { serve } from "./worker-server.js";

/** State of a read-write session while the user is logged in (PKCS#11 v2.40, 3.3), which pkcs11js has no name for. */
const CKS_RW_USER_FUNCTIONS = 3;

/** The control worker: everything that happens once a process, or once a key. One session, read-write. */
class Control {
  #library: pkcs11.PKCS11 | undefined;
  #profile: Profile = profileOf("softhsm2");
  #place: Place | undefined;
  #slot: Buffer = Buffer.alloc(0);

  initialize({ library, provider, tokenLabel }: { library: string; provider: string; tokenLabel: string }): TokenPlace {
    this.#profile = profileOf(provider);
    this.#place = undefined;
    const lib = this.#load(library);
    this.#try("C_Initialize", () => {
      try {
        // Without this flag SoftHSM locks nothing, and lanes would crash the process (PKCS#11 v2.40, 5.4 C_Initialize).
        lib.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
      } catch (error) {
        if (ckrOf(error) !== "CKR_CRYPTOKI_ALREADY_INITIALIZED") throw error;
        lib.C_Finalize();
        lib.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
      }
    });
    const found = this.#try("C_GetTokenInfo", () => tokensLabelled(lib, tokenLabel));
    const [token, ...more] = found;
    if (token === undefined) throw new HsmError("device", `no token labelled "${tokenLabel}" in ${library}`);
    if (more.length > 0) throw new HsmError("device", `${found.length} tokens are labelled "${tokenLabel}" in ${library}`);
    this.#try("C_GetMechanismList", () => this.#requireMechanisms(lib, token.slot));
    this.#slot = token.slot;
    this.#openSession();
    return { serial: token.serial, slot: token.slot.toString("hex") };
  }

  login({ pin }: { pin: string }): boolean {
    const { library, session } = this.#at();
    try {
      library.C_Login(session, pkcs11.CKU_USER, pin);
      return true;
    } catch (error) {
      const ckr = ckrOf(error);
      if (ckr === "CKR_USER_ALREADY_LOGGED_IN") return true;
      if (classify(ckr, this.#profile) === "login") return false;
      throw toHsmError("C_Login", error, this.#profile);
    }
  }

  openKey(name: KeyName): FoundKey {
    return this.#withSession("open key", (place) => {
      this.#requireLogin(place);
      const handle = findKey(place, name);
      const description = describe(place, handle, name.kind);
      const faults = attributeFaults(description);
      if (faults.length > 0) throw new HsmError("integrity", `key ${name.id} (${name.kind}): ${faults.join(", ")}`);
      if (!isTokenObject(place, handle)) throw new HsmError("integrity", `key ${name.id} is not a token object`);
      return { handle: handle.toString("hex"), description, probe: makeProbe(place, name.kind, handle, description.publicKey) };
    });
  }

  describeKey(name: KeyName): KeyDescription {
    return this.#withSession("describe key", (place) => {
      this.#requireLogin(place);
      return describe(place, findKey(place, name), name.kind);
    });
  }

  listKeys(): KeyDescription[] {
    return this.#withSession("list keys", (place) => {
      this.#requireLogin(place);
      const handles = [pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PRIVATE_KEY].flatMap((objectClass) => findKeys(place, objectClass));
      return handles.flatMap((handle) => {
        const kind = kindOf(place, handle);
        return kind === undefined ? [] : [describe(place, handle, kind)];
      });
    });
  }

  check(input: { handle: string; probe: Probe } | { handle: undefined }): true {
    return this.#withSession("known-answer operation", (place) => {
      if (input.handle === undefined) {
        place.library.C_GetTokenInfo(this.#slot);
        this.#requireLogin(place);
      } else if (!answersProbe(place, Buffer.from(input.handle, "hex"), input.probe)) {
        throw new HsmError("integrity", "known-answer operation: another answer");
      }
      return true;
    });
  }

  generateKey({ kind, label }: { kind: KeyKind; label: string }): KeyDescription {
    return this.#withSession("C_GenerateKey", (place) => {
      this.#requireLogin(place);
      const id = random(place, 16);
      const handle = this.#generate(place, kind, id, label);
      return describe(place, handle, kind);
    });
  }

  destroyKey(name: KeyName): true {
    return this.#withSession("C_DestroyObject", (place) => {
      this.#requireLogin(place);
      place.library.C_DestroyObject(place.session, findKey(place, name, classOf(name.kind)));
      if (name.kind === "ed25519") place.library.C_DestroyObject(place.session, findKey(place, name, pkcs11.CKO_PUBLIC_KEY));
      return true;
    });
  }

  finalize(): true {
    this.#place = undefined;
    if (this.#library === undefined) return true;
    try {
      this.#library.C_Finalize();
    } catch (error) {
      if (ckrOf(error) !== "CKR_CRYPTOKI_NOT_INITIALIZED") throw toHsmError("C_Finalize", error, this.#profile);
    }
    return true;
  }

  #load(path: string): pkcs11.PKCS11 {
    if (this.#library !== undefined) return this.#library;
    const library = new pkcs11.PKCS11();
    try {
      library.load(path);
    } catch (error) {
      throw new HsmError("device", `PKCS#11 library ${path} can't be loaded: is it installed, for this processor?`, { cause: error });
    }
    this.#library = library;
    return library;
  }

  #requireMechanisms(library: pkcs11.PKCS11, slot: Buffer): void {
    const there = new Set(library.C_GetMechanismList(slot));
    const missing = Object.entries(this.#profile.mechanisms).filter(([, mechanism]) => !there.has(mechanism));
    if (missing.length === 0) return;
    throw new HsmError("operation", `the token lacks ${missing.map(([name]) => name).join(", ")}, which Cardex needs`);
  }

  /** An empty answer of C_FindObjects means nothing while nobody is logged in: private objects are not found then. */
  #requireLogin({ library, session }: Place): void {
    const { state } = library.C_GetSessionInfo(session);
    if (state !== CKS_RW_USER_FUNCTIONS) throw new HsmError("device", "nobody is logged in to the token");
    library.C_GetTokenInfo(this.#slot);
  }

  #generate({ library, session, profile }: Place, kind: KeyKind, id: Buffer, label: string): Buffer {
    if (kind === "ed25519") {
      const { publicKey, privateKey } = keyPairTemplates(id, label, profile);
      return library.C_GenerateKeyPair(session, { mechanism: profile.ed25519.generate }, publicKey, privateKey).privateKey;
    }
    const mechanism = kind === "aes-256-gcm" ? pkcs11.CKM_AES_KEY_GEN : pkcs11.CKM_GENERIC_SECRET_KEY_GEN;
    return library.C_GenerateKey(session, { mechanism }, secretKeyTemplate(kind, id, label, profile));
  }

  #at(): Place {
    if (this.#place === undefined) throw new HsmError("device", "the HSM is not initialized");
    return this.#place;
  }

  #openSession(): void {
    const library = this.#library;
    if (library === undefined) throw new HsmError("device", "the HSM is not initialized");
    const session = this.#try("C_OpenSession", () => library.C_OpenSession(this.#slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION));
    this.#place = { library, session, profile: this.#profile };
  }

  /** Runs `work`; after any error the session is replaced, the new one opened first, so that the login never lapses with the last one. */
  #withSession<T>(what: string, work: (place: Place) => T): T {
    const place = this.#at();
    try {
      return work(place);
    } catch (error) {
      const failure = toHsmError(what, error, this.#profile);
      this.#openSession();
      this.#try("C_CloseSession", () => {
        try {
          place.library.C_CloseSession(place.session);
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

function tokensLabelled(library: pkcs11.PKCS11, label: string): { slot: Buffer; serial: string }[] {
  return library.C_GetSlotList(true).flatMap((slot) => {
    const info = library.C_GetTokenInfo(slot);
    const initialized = (info.flags & pkcs11.CKF_TOKEN_INITIALIZED) !== 0;
    return initialized && info.label.trimEnd() === label ? [{ slot, serial: info.serialNumber.trim() }] : [];
  });
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
