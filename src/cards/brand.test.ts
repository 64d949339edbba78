import { expect, it } from "vitest";
import { brandOf, brands } from "./brand.js";

it("tells the brand of published test numbers, the longest prefix winning where brands overlap", () => {
  const known: [string, number][] = [
    ["4111111111111111", brands.visa],
    ["5555555555554444", brands.mastercard],
    ["2221000000000009", brands.mastercard],
    ["2720999999999996", brands.mastercard],
    ["378282246310005", brands.americanExpress],
    ["6011111111111117", brands.discover],
    ["6445644564456445", brands.discover],
    ["30569309025904", brands.dinersClub],
    ["36700102000000", brands.dinersClub],
    ["3530111333300000", brands.jcb],
    ["6200000000000005", brands.unionPay],
    ["6221260000000000", brands.unionPay],
    ["6759649826438453", brands.maestro],
    ["6521500000000000", brands.ruPay],
    ["9792000000000000", brands.troy],
    ["2200000000000000", brands.mir],
    ["1000000000000000", brands.unknown],
  ];
  for (const [digits, brand] of known) expect(brandOf(digits), digits).toBe(brand);
});
