/* Two sorts: whole numbers by quicksort, and records by mergesort with a
 * function that compares, called through a pointer. */
#include <string.h>

#include "bench.h"

#define COUNT 100000

typedef struct {
	char name[12];
	uint32_t number;
} record;

static void quicksort(uint32_t *v, int n) {
	while (n > 12) {
		uint32_t x = v[0], y = v[n / 2], z = v[n - 1];
		uint32_t pivot = x < y ? (y < z ? y : (x < z ? z : x)) : (x < z ? x : (y < z ? z : y));
		int i = 0, j = n - 1;
		while (i <= j) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t swap = v[i];
				v[i++] = v[j];
				v[j--] = swap;
			}
		}
		if (j + 1 < n - i) {
			quicksort(v, j + 1);
			v += i, n -= i;
		} else {
			quicksort(v + i, n - i);
			n = j + 1;
		}
	}
	for (int i = 1; i < n; i++) {
		uint32_t x = v[i];
		int j = i;
		for (; j > 0 && v[j - 1] > x; j--)
			v[j] = v[j - 1];
		v[j] = x;
	}
}

typedef int (*comparison)(const record *, const record *);

static int by_name(const record *a, const record *b) {
	for (int i = 0; i < 12; i++)
		if (a->name[i] != b->name[i])
			return a->name[i] < b->name[i] ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

static int by_number(const record *a, const record *b) {
	return a->number < b->number ? -1 : a->number > b->number;
}

static void mergesort(record **v, record **temp, int n, comparison compare) {
	if (n < 2)
		return;
	int half = n / 2;
	mergesort(v, temp, half, compare);
	mergesort(v + half, temp, n - half, compare);
	memcpy(temp, v, (size_t)half * sizeof *v);
	int i = 0, j = half, to = 0;
	while (i < half && j < n)
		v[to++] = compare(v[j], temp[i]) < 0 ? v[j++] : temp[i++];
	while (i < half)
		v[to++] = temp[i++];
}

int main(int argc, char **argv) {
	int rounds = amount(argc, argv);
	uint32_t *numbers = allocate(COUNT * sizeof *numbers);
	record *records = allocate(COUNT * sizeof *records);
	record **order = allocate(COUNT * sizeof *order), **temp = allocate(COUNT * sizeof *temp);
	comparison compare[] = {by_name, by_number};
	random_t r = {3};
	uint64_t sum = CHECKSUM_START;
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < COUNT; i++) {
			numbers[i] = random_next(&r);
			records[i].number = random_next(&r) % 1000;
			for (int j = 0; j < 12; j++)
				records[i].name[j] = 'a' + (j < 4 ? 0 : (char)(random_next(&r) % 3));
			order[i] = &records[i];
		}
		quicksort(numbers, COUNT);
		mergesort(order, temp, COUNT, compare[round % 2]);
		for (int i = 0; i < COUNT; i += 10) {
			sum = checksum_word(sum, numbers[i]);
			sum = checksum_word(sum, order[i]->number);
		}
	}
	checksum_print(sum);
	return 0;
}
