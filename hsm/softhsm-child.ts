import { Module, SessionFlag, TokenFlag, UserType, type Slot, type Token } from "graphene-pk11";
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

const hasFlag = (token: Token, flag: TokenFlag): boolean => (token.flags & flag) !== 0;

function slotsLabelled(module: Module, label: string): Slot[] {
  return [...module.getSlots(true)].filter((slot) => {
    const token = slot.getToken();
    return hasFlag(token, TokenFlag.TOKEN_INITIALIZED) && token.label === label;
  });
}

function emptySlot(module: Module): Slot {
  const slot = [...module.getSlots(true)].find((each) => !hasFlag(each.getToken(), TokenFlag.TOKEN_INITIALIZED));
  if (slot === undefined) throw new Error("no free slot");
  return slot;
}

/** C_InitToken where there is no token of this label, C_InitPIN where it has no user PIN yet. */
function make({ library, label, pin, soPin }: SoftHsmOrder): SoftHsmAnswer {
  const room_bytes = label_bytes - Buffer.byteLength(label);
  if (room_bytes < 0) return { ok: false, message: `its label is longer than ${label_bytes} bytes` };
  const module = Module.load(library);
  module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  try {
    const there = slotsLabelled(module, label);
    if (there.length > 1) return { ok: false, message: `${there.length} tokens have its label` };
    // graphene's own initToken makes the token and then throws, for it expects an answer that there is not.
    if (there.length === 0) module.lib.C_InitToken(emptySlot(module).handle, soPin, label + " ".repeat(room_bytes));
    const [slot] = slotsLabelled(module, label);
    if (slot === undefined) return { ok: false, message: "it was made, but is not there" };
    const token = slot.getToken();
    const finished = hasFlag(token, TokenFlag.USER_PIN_INITIALIZED);
    if (!finished) {
      const session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
      session.login(soPin, UserType.SO);
      session.initPin(pin);
      session.logout();
      session.close();
    }
    return { ok: true, serial: token.serialNumber.trim(), created: !finished };
  } finally {
    module.finalize();
  }
}

// The listener stays, and with it this process, until the parent has the answer and disconnects: the news of an exit can overtake a message.
process.on("message", (order: SoftHsmOrder) => {
  let answer: SoftHsmAnswer;
  try {
    answer = make(order);
  } catch (error) {
    answer = { ok: false, message: ckrOf(error) ?? "the library can't be loaded" };
  }
  process.send?.(answer);
});
