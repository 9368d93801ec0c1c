"""AES-128 in CBC mode, for the one place that wants it without a library: IPMI 2.0 sessions.

FIPS 197 and SP 800-38A.  Tables are computed at import; a message of a few blocks takes a
millisecond.  Not for secrets that matter: timing depends on data, and the peer is a test."""


def _tables():
    sbox = [0] * 256
    p = q = 1
    while True:                         # p runs through the field's elements, q through inverses
        p = p ^ (p << 1 & 0xff) ^ (0x1b if p & 0x80 else 0)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xff
        if q & 0x80:
            q ^= 0x09
        x = q ^ _rotate(q, 1) ^ _rotate(q, 2) ^ _rotate(q, 3) ^ _rotate(q, 4)
        sbox[p] = x ^ 0x63
        if p == 1:
            break
    sbox[0] = 0x63
    inverse = [0] * 256
    for i, v in enumerate(sbox):
        inverse[v] = i
    return sbox, inverse


def _rotate(x, n):
    return (x << n | x >> (8 - n)) & 0xff


def _times(a, b):
    """Product in GF(2^8)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1 & 0xff) ^ (0x1b if a & 0x80 else 0)
        b >>= 1
    return product


SBOX, INVERSE = _tables()
MIX = [[_times(x, k) for x in range(256)] for k in (2, 3)]
UNMIX = [[_times(x, k) for x in range(256)] for k in (14, 11, 13, 9)]


class Aes:
    """One key of 16 bytes."""

    def __init__(self, key):
        if len(key) != 16:
            raise ValueError('AES-128 has a key of 16 bytes')
        words = [list(key[i:i + 4]) for i in range(0, 16, 4)]
        rcon = 1
        for i in range(4, 44):
            word = list(words[-1])
            if i % 4 == 0:
                word = [SBOX[b] for b in word[1:] + word[:1]]
                word[0] ^= rcon
                rcon = _times(rcon, 2)
            words.append([a ^ b for a, b in zip(word, words[-4])])
        self.rounds = [sum(words[i:i + 4], []) for i in range(0, 44, 4)]

    def encrypt_block(self, block):
        """16 bytes of plain text."""
        s = [a ^ b for a, b in zip(block, self.rounds[0])]
        for n in range(1, 11):
            # substitute and shift rows: column c takes row r from column c + r
            s = [SBOX[s[(i + 4 * (i % 4)) % 16]] for i in range(16)]
            if n < 10:
                two, three = MIX
                t = []
                for c in range(0, 16, 4):
                    a, b, d, e = s[c:c + 4]
                    t += [two[a] ^ three[b] ^ d ^ e, a ^ two[b] ^ three[d] ^ e,
                          a ^ b ^ two[d] ^ three[e], three[a] ^ b ^ d ^ two[e]]
                s = t
            s = [a ^ b for a, b in zip(s, self.rounds[n])]
        return bytes(s)

    def decrypt_block(self, block):
        """16 bytes of cipher text."""
        s = [a ^ b for a, b in zip(block, self.rounds[10])]
        for n in range(9, -1, -1):
            s = [INVERSE[s[(i - 4 * (i % 4)) % 16]] for i in range(16)]
            s = [a ^ b for a, b in zip(s, self.rounds[n])]
            if n:
                e14, e11, e13, e9 = UNMIX
                t = []
                for c in range(0, 16, 4):
                    a, b, d, e = s[c:c + 4]
                    t += [e14[a] ^ e11[b] ^ e13[d] ^ e9[e], e9[a] ^ e14[b] ^ e11[d] ^ e13[e],
                          e13[a] ^ e9[b] ^ e14[d] ^ e11[e], e11[a] ^ e13[b] ^ e9[d] ^ e14[e]]
                s = t
        return bytes(s)

    def encrypt(self, iv, data):
        """CBC; data is whole blocks."""
        out = bytearray()
        for i in range(0, len(data), 16):
            iv = self.encrypt_block(bytes(a ^ b for a, b in zip(data[i:i + 16], iv)))
            out += iv
        return bytes(out)

    def decrypt(self, iv, data):
        """CBC; data is whole blocks."""
        out = bytearray()
        for i in range(0, len(data), 16):
            block = data[i:i + 16]
            out += bytes(a ^ b for a, b in zip(self.decrypt_block(block), iv))
            iv = block
        return bytes(out)
