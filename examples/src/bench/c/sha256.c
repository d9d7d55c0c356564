/* SHA-256 (FIPS 180-4) of a MiB, again and again, each with the digest before
 * it in front. */
#include <string.h>

#include "bench.h"

#define BUFFER (1 << 20)

static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void block(uint32_t h[8], const uint8_t *in) {
	uint32_t w[64];
	for (int i = 0; i < 16; i++, in += 4)
		w[i] = (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	uint32_t v[8];
	memcpy(v, h, sizeof v);
	uint32_t a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], last = v[7];
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
		uint32_t t1 = last + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i];
		uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
		uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
		last = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += last;
}

static void sha256(uint8_t out[32], const uint8_t *in, size_t len) {
	uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	uint64_t bits = (uint64_t)len * 8;
	for (; len >= 64; len -= 64, in += 64)
		block(h, in);
	uint8_t end[128] = {0};
	memcpy(end, in, len);
	end[len] = 0x80;
	size_t size = len < 56 ? 64 : 128;
	for (int i = 0; i < 8; i++)
		end[size - 1 - i] = (uint8_t)(bits >> (8 * i));
	for (size_t i = 0; i < size; i += 64)
		block(h, end + i);
	for (int i = 0; i < 32; i++)
		out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

int main(int argc, char **argv) {
	int rounds = amount(argc, argv);
	uint8_t *buffer = allocate(32 + BUFFER);
	memset(buffer, 0, 32);
	random_t r = {1};
	for (int i = 0; i < BUFFER; i++)
		buffer[32 + i] = (uint8_t)random_next(&r);
	uint8_t digest[32];
	for (int i = 0; i < rounds; i++) {
		sha256(digest, buffer, 32 + BUFFER);
		memcpy(buffer, digest, 32);
	}
	uint64_t sum = CHECKSUM_START;
	for (int i = 0; i < 32; i++)
		sum = checksum_byte(sum, digest[i]);
	checksum_print(sum);
	return 0;
}
