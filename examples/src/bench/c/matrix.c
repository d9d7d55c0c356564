/* Products of matrices of floating point numbers, all of them whole and so small
 * that every sum is exact. */
#include "bench.h"

#define N 200

static double a[N][N], b[N][N], product[N][N];

int main(int argc, char **argv) {
	int rounds = amount(argc, argv);
	random_t r = {2};
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j] = random_next(&r) % 1009;
			b[i][j] = random_next(&r) % 1009;
		}
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < N; i++) {
			for (int j = 0; j < N; j++)
				product[i][j] = 0;
			for (int k = 0; k < N; k++) {
				double x = a[i][k];
				for (int j = 0; j < N; j++)
					product[i][j] += x * b[k][j];
			}
		}
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++)
				a[i][j] = (double)((uint32_t)product[i][j] % 1009);
	}
	uint64_t sum = CHECKSUM_START;
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			sum = checksum_word(sum, (uint64_t)a[i][j]);
	checksum_print(sum);
	return 0;
}
