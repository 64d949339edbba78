/** One string for several, such that different lists never make the same one: each part is preceded by its length. */
export function joinedKey(...parts: readonly string[]): string {
  let key = "";
  for (const part of parts) key += `${part.length}:${part}`;
  return key;
}
