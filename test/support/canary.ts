import { createHash, createHmac } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

/** One form in which something may be written down. */
export interface Needle {
  readonly form: string;
  readonly bytes: Buffer;
}

/** A text as it may be written: UTF-8 and UTF-16, hex, base64 at each of its three alignments, backwards. */
export function textNeedles(what: string, text: string): Needle[] {
  const utf8 = Buffer.from(text, "utf8");
  const utf16 = Buffer.from(text, "utf16le");
  const needles: [string, Buffer][] = [
    ["text", utf8],
    ["UTF-16LE", utf16],
    ["UTF-16BE", Buffer.from(utf16).swap16()],
    ["hex", Buffer.from(utf8.toString("hex"))],
    ["hex, upper case", Buffer.from(utf8.toString("hex").toUpperCase())],
    ["backwards", Buffer.from(utf8).reverse()],
    ...[0, 1, 2].map((shift): [string, Buffer] => [`base64 at ${shift}`, base64At(utf8, shift)]),
  ];
  return needles.map(([form, bytes]) => ({ form: `${what}, ${form}`, bytes }));
}

/** What base64 makes of these bytes wherever they stand: without the letters that share bits with their neighbours. */
function base64At(bytes: Buffer, shift: number): Buffer {
  const letters = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64").replace(/=+$/, "");
  return Buffer.from(letters.slice(shift === 0 ? 0 : shift + 1, Math.floor(((shift + bytes.length) * 8) / 6)));
}

/** A PAN of 16 digits as numbers and as what confirms a guess of it: BCD, integers, hashes without a key. */
export function panNeedles(what: string, pan: string): Needle[] {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(pan));
  const bcd = Buffer.from(pan, "hex");
  const forms: [string, Buffer][] = [
    ["last ten digits", Buffer.from(pan.slice(-10))],
    ["in groups", Buffer.from(pan.replace(/(?<=^(?:.{4})+)(?=.)/g, " "))],
    ["with hyphens", Buffer.from(pan.replace(/(?<=^(?:.{4})+)(?=.)/g, "-"))],
    ["BCD", bcd],
    ["BCD, off by one digit", Buffer.from(pan.slice(1, 15), "hex")],
    ["BCD, nibbles reversed", Buffer.from(pan.replace(/(.)(.)/g, "$2$1"), "hex")],
    ["integer", number.subarray(1)],
    ["integer, little-endian", Buffer.from(number).reverse().subarray(0, 7)],
  ];
  for (const name of ["md5", "sha1", "sha256", "sha512"]) forms.push(...hashForms(name, createHash(name).update(pan).digest()));
  forms.push(...hashForms("HMAC without a key", createHmac("sha256", "").update(pan).digest()));
  return forms.map(([form, bytes]) => ({ form: `${what}, ${form}`, bytes }));
}

function hashForms(name: string, hash: Buffer): [string, Buffer][] {
  return [
    [name, hash.subarray(0, 12)],
    [`${name} in hex`, Buffer.from(hash.toString("hex").slice(0, 24))],
    [`${name} in base64`, Buffer.from(hash.toString("base64").slice(0, 16))],
  ];
}

/** Where needles are found in all files below these folders, as "file: form". */
export async function search(roots: readonly string[], needles: readonly Needle[]): Promise<string[]> {
  const found: string[] = [];
  for (const root of roots) {
    for (const file of await filesBelow(root)) {
      const content = await readFile(file);
      for (const { form, bytes } of needles) if (content.includes(bytes)) found.push(`${file}: ${form}`);
    }
  }
  return found;
}

async function filesBelow(path: string): Promise<string[]> {
  const status = await stat(path);
  if (status.isFile()) return [path];
  if (!status.isDirectory()) return [];
  const names = await readdir(path);
  return (await Promise.all(names.map((name) => filesBelow(join(path, name))))).flat();
}
