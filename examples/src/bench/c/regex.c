/* Regular expressions, compiled to a small program and matched by backtracking
 * that goes to no place of program and text twice: of what Perl's syntax has,
 * characters, sets, groups, | * + and ?. */
#include <string.h>

#include "bench.h"

#define LINES 2000
#define LINE 160
#define CODE 256

typedef enum { CHAR, SET, SPLIT, JUMP, MATCH } op;

typedef struct {
	op op;
	int x, y; /* where to go on; first x, then y */
	char c;
	uint8_t set[32];
} instruction;

static instruction code[CODE];
static int size;
static const char *pattern;

static int emit(op op) {
	if (size == CODE) {
		fprintf(stderr, "regex: pattern too long\n");
		exit(1);
	}
	code[size].op = op;
	return size++;
}

/* Moves the code from at on by one place, for an instruction in front of it. */
static void insert(int at, op op) {
	emit(op);
	memmove(&code[at + 1], &code[at], (size_t)(size - 1 - at) * sizeof *code);
	code[at].op = op;
	for (int i = at + 1; i < size; i++) {
		code[i].x += code[i].x >= at && (code[i].op == SPLIT || code[i].op == JUMP);
		code[i].y += code[i].y >= at && code[i].op == SPLIT;
	}
}

static void alternatives(void);

static void set(void) {
	instruction *i = &code[emit(SET)];
	memset(i->set, 0, sizeof i->set);
	int not = *pattern == '^';
	pattern += not;
	for (; *pattern != ']'; pattern++) {
		uint8_t from = (uint8_t)pattern[0], to = from;
		if (pattern[1] == '-' && pattern[2] != ']') {
			to = (uint8_t)pattern[2];
			pattern += 2;
		}
		for (int c = from; c <= to; c++)
			i->set[c / 8] |= (uint8_t)(1 << c % 8);
	}
	pattern++;
	if (not)
		for (int c = 0; c < 32; c++)
			i->set[c] = (uint8_t)~i->set[c];
}

static void atom(void) {
	char c = *pattern++;
	switch (c) {
	case '(':
		alternatives();
		pattern++;
		return;
	case '[':
		set();
		return;
	case '\\':
		c = *pattern++;
	}
	code[emit(CHAR)].c = c;
}

static void sequence(void) {
	while (*pattern != 0 && *pattern != '|' && *pattern != ')') {
		int begin = size;
		atom();
		switch (*pattern) {
		case '*':
			insert(begin, SPLIT);
			code[emit(JUMP)].x = begin;
			code[begin].x = begin + 1, code[begin].y = size;
			pattern++;
			break;
		case '+': {
			int split = emit(SPLIT);
			code[split].x = begin, code[split].y = size;
			pattern++;
			break;
		}
		case '?':
			insert(begin, SPLIT);
			code[begin].x = begin + 1, code[begin].y = size;
			pattern++;
		}
	}
}

static void alternatives(void) {
	int begin = size;
	sequence();
	if (*pattern != '|')
		return;
	pattern++;
	insert(begin, SPLIT);
	int jump = emit(JUMP);
	code[begin].x = begin + 1, code[begin].y = size;
	alternatives();
	code[jump].x = size;
}

static void compile(const char *p) {
	memset(code, 0, sizeof code);
	size = 0;
	pattern = p;
	alternatives();
	emit(MATCH);
}

/* The places that a search has been to: one bit for each instruction and
 * character. */
static uint32_t visited[CODE * (LINE + 1) / 32 + 1];

typedef struct {
	int at, pos;
} job;

static job jobs[CODE * (LINE + 1)];

/* Where a match that begins at pos ends, or -1. */
static int match(const char *text, int len, int pos) {
	int count = 0;
	jobs[count++] = (job){0, pos};
	while (count > 0) {
		job j = jobs[--count];
		for (;;) {
			uint32_t n = (uint32_t)(j.at * (len + 1) + j.pos);
			if (visited[n / 32] & 1u << n % 32)
				break;
			visited[n / 32] |= 1u << n % 32;
			const instruction *i = &code[j.at];
			if (i->op == MATCH)
				return j.pos;
			if (i->op == JUMP) {
				j.at = i->x;
				continue;
			}
			if (i->op == SPLIT) {
				jobs[count++] = (job){i->y, j.pos};
				j.at = i->x;
				continue;
			}
			if (j.pos == len)
				break;
			uint8_t c = (uint8_t)text[j.pos];
			if (i->op == CHAR ? (uint8_t)i->c != c : !(i->set[c / 8] & 1 << c % 8))
				break;
			j.at++;
			j.pos++;
		}
	}
	return -1;
}

static const char *const patterns[] = {
	"([a-z0-9._]+)@(([a-z]+)\\.)+(com|org|net)",
	"[0-9]+-[0-9]+-[0-9]+T([0-9]|:)+Z",
	"(error|warning): [^:]*: (time ?out|refused)",
};

static const char *const words[] = {"alice@", "example.", "com ", "2026-", "11-", "25T", "10:42:07", "Z ", "error: ", "warning: ", "dial: ", "timeout ", "time out ", "refused ", "net ", "a.b_c "};

static int line(random_t *r, char *text) {
	int len = 0;
	while (len < LINE - 16) {
		const char *word = words[random_next(r) % 16];
		size_t n = strlen(word);
		memcpy(text + len, word, n);
		len += (int)n;
	}
	return len;
}

int main(int argc, char **argv) {
	int rounds = amount(argc, argv);
	static char text[LINES][LINE];
	static int len[LINES];
	random_t r = {5};
	for (int i = 0; i < LINES; i++)
		len[i] = line(&r, text[i]);
	uint64_t sum = CHECKSUM_START;
	for (int round = 0; round < rounds; round++)
		for (int p = 0; p < 3; p++) {
			compile(patterns[p]);
			for (int i = 0; i < LINES; i++) {
				memset(visited, 0, (size_t)(size * (len[i] + 1) / 32 + 1) * 4);
				for (int begin = 0; begin <= len[i]; begin++) {
					int end = match(text[i], len[i], begin);
					if (end < 0)
						continue;
					sum = checksum_word(sum, (uint64_t)begin << 32 | (uint64_t)end);
					break;
				}
			}
		}
	checksum_print(sum);
	return 0;
}
