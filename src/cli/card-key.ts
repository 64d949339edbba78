import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CardKeySchema } from "../../gen/cardex/v1/card_pb.js";

/**
 * What the user named a card by. "tok_..." and digits that start with 99 are tokens, other digits are index codes;
 * "token:" or "index:" before it says so outright.
 */
export function cardKey(text: string): MessageInitShape<typeof CardKeySchema> {
  if (text.startsWith("token:")) return { key: { case: "token", value: text.slice("token:".length) } };
  if (text.startsWith("index:")) return { key: { case: "indexCode", value: text.slice("index:".length) } };
  return { key: { case: /^\d{16}$/.test(text) && !text.startsWith("99") ? "indexCode" : "token", value: text } };
}
