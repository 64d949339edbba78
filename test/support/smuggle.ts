import { clone, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { reflect, type ReflectList, type ReflectMessage } from "@bufbuild/protobuf/reflect";

/** The message once for each text field that it can have, at any depth, with that field set to this text. */
export function withTextIn(schema: DescMessage, base: Message, text: string): Message[] {
  return textFields(schema).map((path) => {
    const message = clone(schema, base);
    put(reflect(schema, message), path, text);
    return message;
  });
}

/** Paths to all text fields. */
function textFields(schema: DescMessage, above: readonly DescMessage[] = []): DescField[][] {
  if (above.includes(schema)) return [];
  return schema.fields.flatMap((field): DescField[][] => {
    const isText = (field.fieldKind === "scalar" && field.scalar === ScalarType.STRING) || (field.fieldKind === "list" && field.listKind === "scalar" && field.scalar === ScalarType.STRING);
    if (isText) return [[field]];
    return field.message === undefined ? [] : textFields(field.message, [...above, schema]).map((path) => [field, ...path]);
  });
}

function put(message: ReflectMessage, [field, ...rest]: readonly DescField[], text: string): void {
  if (field === undefined) return;
  if (field.fieldKind === "message") {
    const inner = message.get(field);
    put(inner, rest, text);
    message.set(field, inner);
  } else if (field.fieldKind === "list") {
    const list: ReflectList = message.get(field);
    if (field.listKind === "message") {
      if (list.size === 0) list.add(reflect(field.message));
      put(list.get(0) as ReflectMessage, rest, text);
    } else list.add(text);
  } else if (field.fieldKind === "scalar") message.set(field, text);
}
