import { timestampDate } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { Purpose } from "../../gen/cardex/v1/token_service_pb.js";
import { duration, enumValue, expiry, moment, readExpiry, wholeNumber } from "./arguments.js";
import { cardKey } from "./card-key.js";

it.each([
  ["2030-12", { year: 2030, month: 12 }],
  ["12/30", { year: 2030, month: 12 }],
  ["1/30", { year: 2030, month: 1 }],
  ["01/2031", { year: 2031, month: 1 }],
  ["2030-13", undefined],
  ["00/30", undefined],
  ["2030-1", undefined],
  ["12/030", undefined],
  ["1230", undefined],
  ["", undefined],
  ["２０３０-12", undefined],
])("reads the expiry %s", (text, value) => {
  expect(readExpiry(text)).toEqual(value);
});

it("takes purposes by name, whatever their case, and none that is unspecified", () => {
  const purpose = enumValue<Purpose>(Purpose);
  expect(purpose("recurring-payment")).toBe(Purpose.RECURRING_PAYMENT);
  expect(purpose("PAYMENT")).toBe(Purpose.PAYMENT);
  for (const text of ["unspecified", "1", "", "recurring_payment"]) expect(() => purpose(text)).toThrow("must be one of: payment, recurring-payment");
});

it("takes spans, moments and numbers in their range only", () => {
  expect(duration("30d").seconds).toBe(2_592_000n);
  expect(duration("0s").seconds).toBe(0n);
  for (const text of ["30", "1w", "-1d", "1.5h"]) expect(() => duration(text)).toThrow("for example 30d");
  expect(timestampDate(moment("2026-11-22")).toISOString()).toBe("2026-11-22T00:00:00.000Z");
  expect(timestampDate(moment("2026-11-22T08:00:00+02:00")).toISOString()).toBe("2026-11-22T06:00:00.000Z");
  for (const text of ["yesterday", "2026-11-22T08:00", "2026-13-01"]) expect(() => moment(text)).toThrow("RFC 3339");
  expect(wholeNumber(1, 10)("10")).toBe(10);
  for (const text of ["0", "11", "1e1", " 1"]) expect(() => wholeNumber(1, 10)(text)).toThrow("from 1 to 10");
  expect(() => expiry("soon")).toThrow("must be YYYY-MM");
});

it("tells tokens from index codes, and believes what the user says outright", () => {
  expect(cardKey("tok_abc").key).toEqual({ case: "token", value: "tok_abc" });
  expect(cardKey("4000011234567890").key).toEqual({ case: "indexCode", value: "4000011234567890" });
  expect(cardKey("9900011234567890").key).toEqual({ case: "token", value: "9900011234567890" });
  expect(cardKey("index:9900011234567890").key).toEqual({ case: "indexCode", value: "9900011234567890" });
  expect(cardKey("token:4000011234567890").key).toEqual({ case: "token", value: "4000011234567890" });
});
