import type { DescField, DescMessage, DescMethod, Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { randomUUID } from "node:crypto";

/**
 * Gives a request, or each item of a batch, a random request_id where it has none, so that a repeat after a lost answer is done
 * once. Changes the message.
 */
export function fillRequestIds(schema: DescMessage, message: Message): void {
  const own = schema.field["requestId"];
  const target = reflect(schema, message);
  if (own !== undefined && own.fieldKind === "scalar" && target.get(own) === "") target.set(own, randomUUID());
  for (const field of schema.fields) {
    if (!isItemList(field)) continue;
    for (const item of (message as Message & Record<string, Message[]>)[field.localName] ?? []) fillRequestIds(field.message, item);
  }
}

/**
 * Whether the same request may be sent twice: reads (named Get, BatchGet or List), and what carries a request_id. An RPC that
 * this can't tell of is not repeated.
 */
export function isRepeatable(method: DescMethod): boolean {
  if (method.methodKind !== "unary") return false;
  if (/^(Get|BatchGet|List)[A-Z]/.test(method.name)) return true;
  return hasRequestId(method.input) || method.input.fields.some((field) => isItemList(field) && hasRequestId(field.message));
}

function hasRequestId(schema: DescMessage): boolean {
  return schema.field["requestId"] !== undefined;
}

function isItemList(field: DescField): field is DescField & { fieldKind: "list"; listKind: "message"; message: DescMessage } {
  return field.fieldKind === "list" && field.listKind === "message";
}
