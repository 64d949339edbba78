import type { DescField, DescMessage, MessageShape } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";

/**
 * A message as an object for the log: its shape, numbers, enums and flags. Fields marked `debug_redact` read "[redacted]"; of other
 * text and bytes, which may be tokens or index codes, only the length is told. Generic over descriptors, so that a new message is
 * covered on the day it is added.
 */
export function loggable<D extends DescMessage>(schema: D, message: MessageShape<D>): object {
  return describe(reflect(schema, message));
}

function describe(message: ReflectMessage): object {
  const described: Record<string, unknown> = {};
  for (const field of message.fields) {
    if (message.isSet(field)) described[field.name] = field.proto.options?.debugRedact === true ? "[redacted]" : describeField(message, field);
  }
  return described;
}

function describeField(message: ReflectMessage, field: DescField): unknown {
  switch (field.fieldKind) {
    case "message":
      return describe(message.get(field));
    case "enum":
      return nameOf(field, message.get(field));
    case "list":
      return Array.from(message.get(field), (item) => describeValue(field, item));
    case "map":
      return `[${message.get(field).size} entries]`;
    case "scalar":
      return describeScalar(message.get(field));
  }
}

function describeValue(field: DescField, value: unknown): unknown {
  if (field.message !== undefined) return describe(value as ReflectMessage);
  return field.enum === undefined ? describeScalar(value) : nameOf(field, value);
}

function nameOf(field: DescField, value: unknown): string | number {
  const found = field.enum?.values.find((each) => each.number === value);
  return found?.name ?? Number(value);
}

function describeScalar(value: unknown): unknown {
  if (typeof value === "string") return `[${value.length} characters]`;
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  return typeof value === "bigint" ? value.toString() : value;
}
