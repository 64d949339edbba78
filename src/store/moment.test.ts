import fc from "fast-check";
import { expect, it } from "vitest";
import { isMoment } from "./moment.js";

it("takes every moment that PostgreSQL writes, with and without a fraction", () => {
  fc.assert(
    fc.property(fc.date({ min: new Date("1000-01-01"), max: new Date("9999-12-31"), noInvalidDate: true }), fc.constantFrom("", ".1", ".123456"), (date, fraction) => {
      expect(isMoment(`${date.toISOString().slice(0, 19).replace("T", " ")}${fraction}+00`)).toBe(true);
    }),
  );
});

it.each(["", "9999-99-99 99:99:99+00", "2026-02-30 00:00:00+00", "2026-01-01 25:00:00+00", "2026-01-01 00:00:00+01", "2026-01-01T00:00:00+00", "infinity", 5])("refuses %s", (text) => {
  expect(isMoment(text)).toBe(false);
});
