import { Module, SessionFlag } from "graphene-pk11";
import pkcs11 from "pkcs11js";
import { Secret } from "../src/secret.js";
import { openHsm } from "./driver.js";
import type { KeyName } from "./hsm.js";
import { setLibraryEnvironment } from "./library-environment.js";
import type { HsmOptions } from "./options.js";

/** What the tests ask of a second process on the same token: this file, run by fork(). One order, one answer. */
export interface SecondProcessOrder {
  readonly options: Omit<HsmOptions, "pin"> & { readonly pin: string };
  readonly work:
    | { readonly kind: "reseal"; readonly aes: KeyName; readonly hmac: KeyName; readonly sealed: string; readonly aad: string }
    | { readonly kind: "destroy"; readonly name: KeyName }
    | { readonly kind: "set-pin"; readonly pin: string };
}

async function answer({ options, work }: SecondProcessOrder): Promise<Record<string, string>> {
  if (work.kind === "set-pin") {
    setPin(options, work.pin);
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

function setPin({ library, softhsmConf, tokenLabel, pin }: SecondProcessOrder["options"], next: string): void {
  setLibraryEnvironment(softhsmConf);
  const module = Module.load(library);
  module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  const slot = [...module.getSlots(true)].find((each) => each.getToken().label === tokenLabel);
  if (slot === undefined) throw new Error("no such token");
  const session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
  session.login(pin);
  session.setPin(pin, next);
  module.finalize();
}

// The listener stays, and with it this process, until the parent has the answer and disconnects: the news of an exit can overtake a message.
process.on("message", (order: SecondProcessOrder) => {
  answer(order).then(
    (value) => process.send?.(value),
    (error: unknown) => process.send?.({ failure: String(error) }),
  );
});
