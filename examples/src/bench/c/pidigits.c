/* Digits of pi by Gibbons' unbounded spigot, whose numbers grow without end: big
 * integers times small ones, sums, and quotients of two big ones. */
#include <string.h>

#include "bench.h"

/* A number of at least 0 in digits of 32 bits, the lowest first. The highest is
 * not 0. */
typedef struct {
	uint32_t *word;
	size_t len, cap;
} big;

static void reserve(big *a, size_t len) {
	if (len <= a->cap)
		return;
	size_t cap = 2 * len + 8;
	a->word = realloc(a->word, cap * sizeof *a->word);
	if (a->word == NULL) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	a->cap = cap;
}

static void set(big *a, uint32_t value) {
	reserve(a, 1);
	a->word[0] = value;
	a->len = value != 0;
}

static void copy(big *to, const big *from) {
	reserve(to, from->len);
	memcpy(to->word, from->word, from->len * sizeof *to->word);
	to->len = from->len;
}

/* to = a * factor + b */
static void multiply_add(big *to, const big *a, uint32_t factor, const big *b) {
	size_t len = a->len > b->len ? a->len : b->len;
	reserve(to, len + 1);
	uint64_t carry = 0;
	for (size_t i = 0; i < len; i++) {
		if (i < a->len)
			carry += (uint64_t)a->word[i] * factor;
		if (i < b->len) {
			/* No overflow: (2^32-1)^2 + 2 * (2^32-1) is 2^64-1. */
			carry += b->word[i];
		}
		to->word[i] = (uint32_t)carry;
		carry >>= 32;
	}
	to->len = len;
	if (carry != 0)
		to->word[to->len++] = (uint32_t)carry;
}

static const big zero;

static void multiply(big *a, uint32_t factor) { multiply_add(a, a, factor, &zero); }

static int compare(const big *a, const big *b) {
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	for (size_t i = a->len; i-- > 0;)
		if (a->word[i] != b->word[i])
			return a->word[i] < b->word[i] ? -1 : 1;
	return 0;
}

/* a -= b * factor, which must not be more than a */
static void subtract(big *a, const big *b, uint32_t factor) {
	uint64_t borrow = 0;
	for (size_t i = 0; i < a->len; i++) {
		uint64_t take = borrow;
		if (i < b->len)
			take += (uint64_t)b->word[i] * factor;
		uint32_t low = (uint32_t)take;
		borrow = (take >> 32) + (a->word[i] < low);
		a->word[i] -= low;
	}
	while (a->len > 0 && a->word[a->len - 1] == 0)
		a->len--;
}

/* The quotient of a and b if it is less than 2^16 and b has at least two words,
 * or a fits a word; a becomes the remainder. */
static uint32_t divide(big *a, const big *b) {
	if (compare(a, b) < 0)
		return 0;
	if (a->len == 1) {
		uint32_t q = a->word[0] / b->word[0];
		subtract(a, b, q);
		return q;
	}
	/* From the two highest words of b, and a's at the same places, which may be
	 * three. b's are counted up, so the estimate is never too great. */
	size_t n = b->len;
	uint64_t low = (uint64_t)a->word[n - 1] << 32 | (n > 1 ? a->word[n - 2] : 0);
	uint64_t high = a->len > n ? a->word[n] : 0;
	uint64_t by = (uint64_t)b->word[n - 1] << 32 | (n > 1 ? b->word[n - 2] : 0);
	uint32_t q = (uint32_t)((high << 48 | low >> 16) / ((by >> 16) + 1));
	subtract(a, b, q);
	while (compare(a, b) >= 0) {
		subtract(a, b, 1);
		q++;
	}
	return q;
}

int main(int argc, char **argv) {
	int digits = amount(argc, argv);
	big num = {0}, den = {0}, acc = {0}, t = {0}, u = {0};
	set(&num, 1);
	set(&den, 1);
	uint64_t sum = CHECKSUM_START;
	for (uint32_t k = 1; digits > 0; k++) {
		multiply_add(&acc, &num, 2, &acc);
		multiply(&acc, 2 * k + 1);
		multiply(&den, 2 * k + 1);
		multiply(&num, k);
		if (compare(&num, &acc) > 0)
			continue;
		/* The digit is sure if four times num more would not change it. */
		copy(&t, &acc);
		uint32_t digit = divide(&t, &den);
		multiply_add(&u, &num, 4, &t);
		if (compare(&u, &den) >= 0)
			continue;
		sum = checksum_byte(sum, (uint8_t)digit);
		digits--;
		copy(&acc, &t);
		multiply(&acc, 10);
		multiply(&num, 10);
	}
	for (size_t i = 0; i < acc.len; i++)
		sum = checksum_word(sum, acc.word[i]);
	checksum_print(sum);
	return 0;
}
