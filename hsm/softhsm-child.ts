import pkcs11 from "pkcs11js";
import { ckrOf } from "./errors.js";

/** What `createSoftHsmToken` asks of the child process that this file is. */
export interface SoftHsmOrder {
  readonly library: string;
  readonly label: string;
  readonly pin: string;
  readonly soPin: string;
}

export type SoftHsmAnswer =
  | { readonly ok: true; readonly serial: string; readonly created: boolean }
  | { readonly ok: false; readonly message: string };

/** Length of CK_TOKEN_INFO.label, padded with spaces (PKCS#11 v2.40, 3.2); pkcs11js hands over what it gets. */
const label_bytes = 32;

interface Found {
  readonly slot: Buffer;
  readonly flags: number;
  readonly serial: string;
}

function tokens(library: pkcs11.PKCS11, label: string): Found[] {
  return library.C_GetSlotList(true).flatMap((slot) => {
    const info = library.C_GetTokenInfo(slot);
    const mine = (info.flags & pkcs11.CKF_TOKEN_INITIALIZED) !== 0 && info.label.trimEnd() === label;
    return mine ? [{ slot, flags: info.flags, serial: info.serialNumber.trim() }] : [];
  });
}

function emptySlot(library: pkcs11.PKCS11): Buffer {
  const slot = library.C_GetSlotList(true).find((each) => (library.C_GetTokenInfo(each).flags & pkcs11.CKF_TOKEN_INITIALIZED) === 0);
  if (slot === undefined) throw new Error("no free slot");
  return slot;
}

/** C_InitToken where there is no token of this label, C_InitPIN where it has no user PIN yet. */
function make(order: SoftHsmOrder): SoftHsmAnswer {
  const library = new pkcs11.PKCS11();
  library.load(order.library);
  library.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  try {
    const padded = Buffer.from(order.label).length <= label_bytes ? order.label + " ".repeat(label_bytes - Buffer.from(order.label).length) : undefined;
    if (padded === undefined) return { ok: false, message: `its label is longer than ${label_bytes} bytes` };
    const there = tokens(library, order.label);
    if (there.length > 1) return { ok: false, message: `${there.length} tokens have its label` };
    if (there.length === 0) library.C_InitToken(emptySlot(library), order.soPin, padded);
    const [token] = tokens(library, order.label);
    if (token === undefined) return { ok: false, message: "it was made, but is not there" };
    const finished = (token.flags & pkcs11.CKF_USER_PIN_INITIALIZED) !== 0;
    if (!finished) {
      const session = library.C_OpenSession(token.slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
      library.C_Login(session, pkcs11.CKU_SO, order.soPin);
      library.C_InitPIN(session, order.pin);
      library.C_Logout(session);
      library.C_CloseSession(session);
    }
    return { ok: true, serial: token.serial, created: !finished };
  } finally {
    library.C_Finalize();
  }
}

process.once("message", (order: SoftHsmOrder) => {
  let answer: SoftHsmAnswer;
  try {
    answer = make(order);
  } catch (error) {
    answer = { ok: false, message: ckrOf(error) ?? "the library can't be loaded" };
  }
  // The parent disconnects when it has the answer, which ends this process: the news of an exit can overtake a message.
  process.send?.(answer);
});
