/* Digits of pi by the spigot of Rabinowitz and Wagon: an array of remainders,
 * and divisions of small numbers. */
#include "bench.h"

int main(int argc, char **argv) {
	uint32_t digits = (uint32_t)amount(argc, argv);
	uint32_t len = digits * 10 / 3 + 1;
	uint32_t *rest = allocate(len * sizeof *rest);
	for (uint32_t i = 0; i < len; i++)
		rest[i] = 2;
	uint64_t sum = CHECKSUM_START;
	uint32_t held = 0, nines = 0; /* what a carry may still change */
	for (uint32_t n = 0; n <= digits; n++) {
		uint32_t q = 0;
		for (uint32_t i = len; i > 1; i--) {
			uint32_t x = 10 * rest[i - 1] + q * i;
			uint32_t d = 2 * i - 1;
			q = x / d;
			rest[i - 1] = x - q * d;
		}
		uint32_t x = 10 * rest[0] + q;
		q = x / 10;
		rest[0] = x - q * 10;
		if (q == 9) {
			nines++;
			continue;
		}
		uint32_t carry = q == 10;
		if (n > 0)
			sum = checksum_byte(sum, (uint8_t)(held + carry));
		for (; nines > 0; nines--)
			sum = checksum_byte(sum, carry ? 0 : 9);
		held = carry ? 0 : q;
	}
	checksum_print(sum);
	return 0;
}
