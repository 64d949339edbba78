import fc from "fast-check";
import { expect, test } from "vitest";
import { Decisions, type Question } from "./decisions.js";
import { joinedKey } from "./joined-key.js";

test("questions whose parts run into each other when joined are different questions", () => {
  const allowed: Question = { subject: "a", tenant: "b$$c", object: "d", action: "e", purpose: "f" };
  const other: Question = { subject: "a$$b", tenant: "c", object: "d", action: "e", purpose: "f" };
  const decisions = new Decisions(10, (question) => question === allowed);
  expect(decisions.ask(allowed)).toBe(true);
  expect(decisions.ask(other)).toBe(false);
});

test("different lists never make the same key", () => {
  const part = fc.stringMatching(/^[0-9:$a]{0,6}$/);
  fc.assert(
    fc.property(fc.array(part, { maxLength: 5 }), fc.array(part, { maxLength: 5 }), (one, other) => {
      expect(joinedKey(...one) === joinedKey(...other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
  );
});

test("a decision is made once, and no more are kept than the limit says", () => {
  let asked = 0;
  const decisions = new Decisions(2, () => {
    asked += 1;
    return true;
  });
  const question = (subject: string): Question => ({ subject, tenant: "t", object: "o", action: "a", purpose: "p" });
  decisions.ask(question("1"));
  decisions.ask(question("1"));
  expect(asked).toBe(1);
  decisions.ask(question("2"));
  decisions.ask(question("3"));
  decisions.ask(question("1"));
  expect(asked).toBe(4);
});

test("a question that could not be decided is not kept as a refusal or an allowance", () => {
  let broken = true;
  const decisions = new Decisions(2, () => {
    if (broken) throw new Error("broken");
    return true;
  });
  const question: Question = { subject: "s", tenant: "t", object: "o", action: "a", purpose: "p" };
  expect(() => decisions.ask(question)).toThrow("broken");
  broken = false;
  expect(decisions.ask(question)).toBe(true);
});
