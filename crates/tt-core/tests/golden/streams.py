"""First 64-bit numbers of three streams of `src/rng.rs`: ChaCha8 whose key is SHA-256 of seed and purpose."""
import hashlib, struct
def first(seed, purpose):
    key = struct.unpack("<8I", hashlib.sha256(struct.pack("<Q", seed) + purpose.encode()).digest())
    s = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, *key, 0, 0, 0, 0]
    w = list(s)
    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            w[x] = (w[x] + w[y]) & 0xffffffff
            v = w[z] ^ w[x]
            w[z] = ((v << turn) | (v >> (32 - turn))) & 0xffffffff
    for _ in range(4):
        for k in range(4): quarter(k, 4 + k, 8 + k, 12 + k)
        for k in range(4): quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
    words = [(a + b) & 0xffffffff for a, b in zip(w, s)]
    return words[0] | words[1] << 32
for pair in ((1, "init"), (2, "init"), (1, "mask")): print(f"{first(*pair):#018x}")
