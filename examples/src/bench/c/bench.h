/* What the C programs share: made-up input, a checksum, and the one line that
 * each prints. The Go programs have the same in package input. */
#ifndef BENCH_H
#define BENCH_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* A xorshift generator whose state must not be 0. */
typedef struct {
	uint64_t state;
} random_t;

static inline uint32_t random_next(random_t *r) {
	uint64_t x = r->state;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->state = x;
	return (uint32_t)((x * UINT64_C(2685821657736338717)) >> 32);
}

/* FNV-1a. */
#define CHECKSUM_START UINT64_C(14695981039346656037)

static inline uint64_t checksum_byte(uint64_t sum, uint8_t byte) {
	return (sum ^ byte) * UINT64_C(1099511628211);
}

static inline uint64_t checksum_word(uint64_t sum, uint64_t word) {
	for (int i = 0; i < 8; i++)
		sum = checksum_byte(sum, (uint8_t)(word >> (8 * i)));
	return sum;
}

static inline void checksum_print(uint64_t sum) { printf("%016" PRIx64 "\n", sum); }

/* The program's one argument: how much to do. */
static inline int amount(int argc, char **argv) {
	int n = argc == 2 ? atoi(argv[1]) : 0;
	if (n < 1) {
		fprintf(stderr, "usage: %s AMOUNT\n", argv[0]);
		exit(2);
	}
	return n;
}

static inline void *allocate(size_t bytes) {
	void *p = malloc(bytes);
	if (p == NULL) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	return p;
}

#endif
