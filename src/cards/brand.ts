/** Brands, numbered as cardex.v1.CardBrand. */
export const brands = {
  unknown: 0,
  visa: 1,
  mastercard: 2,
  americanExpress: 3,
  discover: 4,
  dinersClub: 5,
  jcb: 6,
  unionPay: 7,
  maestro: 8,
  ruPay: 9,
  troy: 10,
  mir: 11,
} as const;

export type Brand = (typeof brands)[keyof typeof brands];

/** Leading digits from `low` to `high`, both of the same length. */
interface BrandRange {
  readonly low: string;
  readonly high: string;
  readonly brand: Brand;
}

const range = (brand: Brand, low: string, high = low): BrandRange => ({ brand, low, high });

/**
 * IIN ranges as the schemes publish them (Visa, Mastercard, American Express, Discover Global Network, JCB, UnionPay International, NPCI,
 * BKM and NSPK acquirer guides). Longest first: the longest prefix wins, so a co-badged range stands before the brand around it.
 */
const ranges: readonly BrandRange[] = [
  range(brands.unionPay, "62212600", "62292599"),
  range(brands.troy, "979200", "979289"),
  range(brands.ruPay, "508500", "508999"),
  range(brands.ruPay, "606985", "607984"),
  range(brands.ruPay, "608001", "608500"),
  range(brands.ruPay, "652150", "653149"),
  range(brands.troy, "650052", "650052"),
  range(brands.mir, "2200", "2204"),
  range(brands.mastercard, "2221", "2720"),
  range(brands.jcb, "3528", "3589"),
  range(brands.dinersClub, "3095"),
  range(brands.discover, "6011"),
  range(brands.maestro, "5018"),
  range(brands.maestro, "5020"),
  range(brands.maestro, "5038"),
  range(brands.maestro, "5893"),
  range(brands.maestro, "6304"),
  range(brands.maestro, "6759"),
  range(brands.maestro, "6761", "6763"),
  range(brands.dinersClub, "300", "305"),
  range(brands.discover, "644", "649"),
  range(brands.americanExpress, "34"),
  range(brands.americanExpress, "37"),
  range(brands.dinersClub, "36"),
  range(brands.dinersClub, "38", "39"),
  range(brands.mastercard, "51", "55"),
  range(brands.discover, "65"),
  range(brands.unionPay, "62"),
  range(brands.unionPay, "81"),
  range(brands.ruPay, "82"),
  range(brands.visa, "4"),
];

/** Brand of a PAN, by its leading digits; `unknown` where no range has it. */
export function brandOf(digits: string): Brand {
  for (const { low, high, brand } of ranges) {
    const prefix = digits.slice(0, low.length);
    if (prefix >= low && prefix <= high) return brand;
  }
  return brands.unknown;
}
