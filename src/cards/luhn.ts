/** The Luhn check (ISO/IEC 7812-1 annex B) over ASCII digits, the last one being the check digit. */
export function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = digits.charCodeAt(digits.length - 1 - i) - 48;
    const doubled = i % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}

/** The digit that makes `digits` pass when it is put behind them. */
export function luhnCheckDigit(digits: string): string {
  for (const digit of "0123456789") if (passesLuhn(digits + digit)) return digit;
  throw new RangeError("not digits");
}
