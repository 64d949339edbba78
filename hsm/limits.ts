/** IV of AES-GCM, bytes: 96 bits (NIST SP 800-38D, 8.2.2). */
export const iv_bytes = 12;
/** Tag of AES-GCM, bytes: 128 bits. */
export const tag_bytes = 16;
/** Plaintext, associated data, data to authenticate or to sign, random bytes: at most 64 KiB an operation. */
export const text_bytes_max = 65_536;
