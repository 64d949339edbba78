import { create, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { BatchTokenizeRequestSchema, TokenFormat, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { loggable } from "./redact.js";

test("a message for the log shows its shape, and neither what is redacted nor any text", () => {
  const message = create(BatchTokenizeRequestSchema, {
    requests: [
      {
        requestId: "2f8b1cde-0000-4000-8000-000000000000",
        pan: "4111111111111111",
        cardholderName: "A. Person",
        expiry: { year: 2030, month: 12 },
        options: { format: TokenFormat.NUMERIC, ttl: { seconds: 60n }, keepLastFour: true },
      },
    ],
  });
  expect(loggable(BatchTokenizeRequestSchema, message)).toEqual({
    requests: [
      {
        request_id: "[36 characters]",
        pan: "[redacted]",
        cardholder_name: "[redacted]",
        expiry: { year: 2030, month: 12 },
        options: { format: "TOKEN_FORMAT_NUMERIC", ttl: { seconds: "60" }, keep_last_four: true },
      },
    ],
  });
});

describe("every field that can carry a PAN is marked debug_redact:", () => {
  const messages = new Map<string, DescMessage>();
  const collect = (message: DescMessage): void => {
    if (messages.has(message.typeName)) return;
    messages.set(message.typeName, message);
    for (const field of message.fields) if (field.message !== undefined) collect(field.message);
  };
  for (const service of [TokenService, CardService, AuditService]) {
    for (const method of service.methods) {
      collect(method.input);
      collect(method.output);
    }
  }
  test.each([...messages.values()].map((message): [string, DescMessage] => [message.typeName, message]))("%s", (_name, message) => {
    const sensitive = (field: DescField): boolean => /(^|_)(pan|cardholder_name)$/.test(field.name);
    for (const field of message.fields) expect(field.proto.options?.debugRedact ?? false).toBe(sensitive(field));
  });
});
