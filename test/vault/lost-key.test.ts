import { afterAll, beforeAll, expect, it } from "vitest";
import { workInSecondProcess } from "../support/second-process.js";
import { openGround, openRooms, testCall, tokenizeRequest, type VaultGround, type VaultRooms } from "../support/vault.js";

let ground: VaultGround;
let rooms: VaultRooms;

beforeAll(async () => {
  ground = await openGround();
  rooms = await openRooms(ground);
});
afterAll(async () => {
  await rooms.close();
  await ground.close();
});

it("blames no card for a key that was lost: the key alerts, once, and the cards under it are refused", async () => {
  const call = (rpc: string) => testCall(`TokenService/${rpc}`);
  const [made] = await rooms.tokenizer.tokenize(call("Tokenize"), [tokenizeRequest()]);
  if (made?.ok !== true) throw made?.error;
  const item = { token: made.value.token, requestId: undefined };
  const detokenize = async () => (await rooms.detokenizer.detokenize(call("Detokenize"), "PAYMENT", [item]).catch((error: unknown) => [{ ok: false as const, error }]))[0];
  expect(await detokenize()).toMatchObject({ ok: true });

  const { key } = await rooms.keys.panForEncrypt("acme");
  await workInSecondProcess(ground.token.options, { kind: "destroy", name: key });
  // The driver's own check finds it first; the keys of the ring take turns in it.
  for (let turn = 0; turn < 5; turn += 1) await ground.hsm.health();
  await expect(ground.hsm.encrypt(key, Buffer.from("x"), Buffer.from("y"))).rejects.toMatchObject({ errorClass: "key" });
  expect(await detokenize()).toMatchObject({ ok: false });
  expect(rooms.alerts).toEqual([]);
  expect(await rooms.keys.verify()).toBe(1);
  expect(await detokenize()).toMatchObject({ ok: false, error: { reason: "INTEGRITY" } });
  expect(rooms.alerts).toEqual(["key_not_verified"]);
});
