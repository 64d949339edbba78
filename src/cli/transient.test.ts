import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { ItemErrorSchema, Reason } from "../../gen/cardex/v1/reason_pb.js";
import { type BatchResult, settleItems } from "./transient.js";

function failed(code: number, reason: Reason, delay_s?: number): BatchResult<string> {
  const retryDelay = delay_s === undefined ? {} : { retryDelay: create(DurationSchema, { seconds: BigInt(delay_s) }) };
  return { result: { case: "error", value: create(ItemErrorSchema, { code, reason, message: "no", ...retryDelay }) } };
}

function done(value: string): BatchResult<string> {
  return { result: { case: "response", value } };
}

const never = new AbortController().signal;

it("sends again only the items that may pass, and keeps each answer in its place", async () => {
  const sent: string[][] = [];
  const answers = await settleItems<string, string>(
    ["a", "b", "c"],
    async (items) => {
      sent.push([...items]);
      return items.map((item) => {
        if (item === "c") return failed(status.INVALID_ARGUMENT, Reason.INVALID_FIELD);
        return item === "b" && sent.length === 1 ? failed(status.UNAVAILABLE, Reason.HSM_UNAVAILABLE) : done(item.toUpperCase());
      });
    },
    never,
  );
  expect(sent).toEqual([["a", "b", "c"], ["b"]]);
  expect(answers).toMatchObject([{ response: "A" }, { response: "B" }, { refusal: { reason: "INVALID_FIELD" } }]);
});

it("takes a limit that asks for more than a minute as the item's answer", async () => {
  const answers = await settleItems<string, string>(["a"], async () => [failed(status.RESOURCE_EXHAUSTED, Reason.LIMIT, 3600)], never);
  expect(answers).toMatchObject([{ refusal: { reason: "LIMIT", retryAfter_ms: 3_600_000 } }]);
});

it.each([status.PERMISSION_DENIED, status.UNAUTHENTICATED, status.DATA_LOSS])("ends the job at what concerns the job (code %i)", async (code) => {
  await expect(settleItems<string, string>(["a"], async () => [failed(code, Reason.DENIED)], never)).rejects.toMatchObject({ code });
});

it("does not take an answer that is not item by item", async () => {
  await expect(settleItems<string, string>(["a", "b"], async () => [done("a")], never)).rejects.toThrow("1 results for 2 items");
  await expect(settleItems<string, string>(["a"], async () => [{ result: { case: undefined } }], never)).rejects.toThrow("neither a response nor an error");
});
