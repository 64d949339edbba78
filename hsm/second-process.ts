import { Module, SessionFlag, type Session } from "graphene-pk11";
import pkcs11 from "pkcs11js";
import { Secret } from "../src/secret.js";
import { openHsm } from "./driver.js";
import type { KeyName } from "./hsm.js";
import { destroy, findKey, generate, readAttributes } from "./key-object.js";
import { setLibraryEnvironment } from "./library-environment.js";
import type { HsmOptions } from "./options.js";
import { profileOf } from "./profiles.js";

/** What the tests ask of a second process on the same token: this file, run by fork(). One order, one answer. */
export interface SecondProcessOrder {
  readonly options: Omit<HsmOptions, "pin"> & { readonly pin: string };
  readonly work:
    | { readonly kind: "reseal"; readonly aes: KeyName; readonly hmac: KeyName; readonly sealed: string; readonly aad: string }
    | { readonly kind: "destroy"; readonly name: KeyName }
    | { readonly kind: "swap"; readonly names: readonly KeyName[] }
    | { readonly kind: "set-pin"; readonly pin: string };
}

async function answer({ options, work }: SecondProcessOrder): Promise<Record<string, string>> {
  if (work.kind === "set-pin") {
    atToken(options, (session) => session.setPin(options.pin, work.pin));
    return {};
  }
  if (work.kind === "swap") {
    atToken(options, (session) => work.names.forEach((name) => swap(session, name)));
    return {};
  }
  const guard = { attempt: async (_: string, login: () => Promise<boolean>) => void (await login()) };
  const hsm = await openHsm({ ...options, pin: new Secret(options.pin) }, guard, { hung: () => undefined, stateChanged: () => undefined });
  try {
    if (work.kind === "destroy") {
      await hsm.destroyKey(work.name);
      return {};
    }
    const aad = Buffer.from(work.aad);
    const aes = await hsm.openKey(work.aes);
    const text = await hsm.decrypt(aes, Buffer.from(work.sealed, "hex"), aad);
    const mac = await hsm.mac(await hsm.openKey(work.hmac), text);
    const sealed = await hsm.encrypt(aes, text, aad);
    return { mac: Buffer.from(mac).toString("hex"), sealed: Buffer.from(sealed).toString("hex") };
  } finally {
    await hsm.close();
  }
}

/** What one who has the PIN can do without Cardex. */
function atToken({ library, softhsmConf, tokenLabel, pin }: SecondProcessOrder["options"], work: (session: Session) => void): void {
  setLibraryEnvironment(softhsmConf);
  const module = Module.load(library);
  module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  const slot = [...module.getSlots(true)].find((each) => each.getToken().label === tokenLabel);
  if (slot === undefined) throw new Error("no such token");
  const session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
  session.login(pin);
  work(session);
  module.finalize();
}

/** Puts another good key in a key's place: same CKA_ID, label and attributes. */
function swap(session: Session, name: KeyName): void {
  const { label } = readAttributes(findKey(session, name), name.kind);
  destroy(session, name);
  generate({ session, profile: profileOf("softhsm2") }, name.kind, Buffer.from(name.id, "hex"), label);
}

// The listener stays, and with it this process, until the parent has the answer and disconnects: the news of an exit can overtake a message.
process.on("message", (order: SecondProcessOrder) => {
  answer(order).then(
    (value) => process.send?.(value),
    (error: unknown) => process.send?.({ failure: String(error) }),
  );
});
