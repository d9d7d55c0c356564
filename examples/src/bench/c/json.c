/* Parses a JSON document into a tree and prints it again, with the members of
 * each object in the order of their names. Numbers are whole. */
#include <string.h>

#include "bench.h"

#define RECORDS 500

typedef struct {
	char *text;
	size_t len, cap;
} buffer;

static void put(buffer *b, const char *text, size_t len) {
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len) + 64;
		b->text = realloc(b->text, b->cap);
		if (b->text == NULL)
			exit(1);
	}
	memcpy(b->text + b->len, text, len);
	b->len += len;
}

static void put_text(buffer *b, const char *text) { put(b, text, strlen(text)); }

static void put_char(buffer *b, char c) { put(b, &c, 1); }

static void put_number(buffer *b, int64_t n) {
	char digits[24];
	int at = sizeof digits;
	uint64_t rest = n < 0 ? -(uint64_t)n : (uint64_t)n;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (n < 0)
		digits[--at] = '-';
	put(b, digits + at, sizeof digits - at);
}

typedef enum { NOTHING, TRUE, FALSE, NUMBER, STRING, ARRAY, OBJECT } kind;

typedef struct value {
	kind kind;
	int64_t number;
	char *text;
	size_t len;		/* of text or items */
	struct value *items;	/* of an array or object */
	struct value *names;	/* of an object */
} value;

typedef struct {
	const char *at, *end;
} parser;

static void fail(const char *why) {
	fprintf(stderr, "json: %s\n", why);
	exit(1);
}

static void space(parser *p) {
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
		p->at++;
}

static char peek(parser *p) {
	space(p);
	if (p->at == p->end)
		fail("unexpected end");
	return *p->at;
}

static int take(parser *p, char c) {
	if (peek(p) != c)
		return 0;
	p->at++;
	return 1;
}

static void expect(parser *p, char c) {
	if (!take(p, c))
		fail("unexpected character");
}

static uint32_t hex(parser *p) {
	uint32_t n = 0;
	if (p->end - p->at < 4)
		fail("unexpected end");
	for (int i = 0; i < 4; i++) {
		char c = *p->at++;
		if (c >= '0' && c <= '9')
			n = n * 16 + (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n * 16 + (uint32_t)(c - 'a' + 10);
		else
			fail("no digit");
	}
	return n;
}

/* Appends a character of at most 16 bits in UTF-8. */
static void put_rune(buffer *b, uint32_t r) {
	if (r < 0x80) {
		put_char(b, (char)r);
	} else if (r < 0x800) {
		put_char(b, (char)(0xc0 | r >> 6));
		put_char(b, (char)(0x80 | (r & 0x3f)));
	} else {
		put_char(b, (char)(0xe0 | r >> 12));
		put_char(b, (char)(0x80 | (r >> 6 & 0x3f)));
		put_char(b, (char)(0x80 | (r & 0x3f)));
	}
}

static void parse_string(parser *p, value *v) {
	buffer b = {0};
	expect(p, '"');
	for (;;) {
		if (p->at == p->end)
			fail("unexpected end");
		char c = *p->at++;
		if (c == '"')
			break;
		if (c != '\\') {
			put_char(&b, c);
			continue;
		}
		if (p->at == p->end)
			fail("unexpected end");
		switch (c = *p->at++) {
		case 'n': put_char(&b, '\n'); break;
		case 't': put_char(&b, '\t'); break;
		case 'u': put_rune(&b, hex(p)); break;
		case '"': case '\\': case '/': put_char(&b, c); break;
		default: fail("unknown escape");
		}
	}
	v->kind = STRING;
	v->text = b.text;
	v->len = b.len;
}

static void parse(parser *p, value *v);

/* Makes room for one more of the n values in a list that grows by doubling. */
static value *more(value *list, size_t n) {
	if ((n & (n - 1)) == 0) {
		list = realloc(list, (n == 0 ? 1 : 2 * n) * sizeof *list);
		if (list == NULL)
			exit(1);
	}
	memset(&list[n], 0, sizeof *list);
	return list;
}

static void parse_list(parser *p, value *v, char end) {
	p->at++;
	if (take(p, end))
		return;
	do {
		if (v->kind == OBJECT) {
			v->names = more(v->names, v->len);
			space(p);
			parse_string(p, &v->names[v->len]);
			expect(p, ':');
		}
		v->items = more(v->items, v->len);
		parse(p, &v->items[v->len++]);
	} while (take(p, ','));
	expect(p, end);
}

static void word(parser *p, value *v, kind kind, const char *text) {
	size_t len = strlen(text);
	if ((size_t)(p->end - p->at) < len || memcmp(p->at, text, len) != 0)
		fail("unknown word");
	p->at += len;
	v->kind = kind;
}

static void parse_number(parser *p, value *v) {
	int minus = take(p, '-');
	const char *begin = p->at;
	int64_t n = 0;
	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		n = n * 10 + (*p->at++ - '0');
	if (p->at == begin)
		fail("unexpected character");
	v->kind = NUMBER;
	v->number = minus ? -n : n;
}

static void parse(parser *p, value *v) {
	switch (peek(p)) {
	case '{': v->kind = OBJECT; parse_list(p, v, '}'); break;
	case '[': v->kind = ARRAY; parse_list(p, v, ']'); break;
	case '"': parse_string(p, v); break;
	case 't': word(p, v, TRUE, "true"); break;
	case 'f': word(p, v, FALSE, "false"); break;
	case 'n': word(p, v, NOTHING, "null"); break;
	default: parse_number(p, v);
	}
}

static void print_string(buffer *b, const value *v) {
	put_char(b, '"');
	for (size_t i = 0; i < v->len; i++) {
		char c = v->text[i];
		switch (c) {
		case '"': put_text(b, "\\\""); break;
		case '\\': put_text(b, "\\\\"); break;
		case '\n': put_text(b, "\\n"); break;
		case '\t': put_text(b, "\\t"); break;
		default: put_char(b, c);
		}
	}
	put_char(b, '"');
}

static int compare(const value *a, const value *b) {
	size_t len = a->len < b->len ? a->len : b->len;
	int d = len == 0 ? 0 : memcmp(a->text, b->text, len);
	return d != 0 ? d : a->len < b->len ? -1 : a->len > b->len;
}

static void order(value *v) {
	for (size_t i = 1; i < v->len; i++)
		for (size_t j = i; j > 0 && compare(&v->names[j - 1], &v->names[j]) > 0; j--) {
			value name = v->names[j], item = v->items[j];
			v->names[j] = v->names[j - 1], v->items[j] = v->items[j - 1];
			v->names[j - 1] = name, v->items[j - 1] = item;
		}
}

static void print(buffer *b, value *v) {
	switch (v->kind) {
	case NOTHING: put_text(b, "null"); return;
	case TRUE: put_text(b, "true"); return;
	case FALSE: put_text(b, "false"); return;
	case NUMBER: put_number(b, v->number); return;
	case STRING: print_string(b, v); return;
	case ARRAY: put_char(b, '['); break;
	case OBJECT: put_char(b, '{'); order(v); break;
	}
	for (size_t i = 0; i < v->len; i++) {
		if (i > 0)
			put_char(b, ',');
		if (v->kind == OBJECT) {
			print_string(b, &v->names[i]);
			put_char(b, ':');
		}
		print(b, &v->items[i]);
	}
	put_char(b, v->kind == OBJECT ? '}' : ']');
}

static void release(value *v) {
	if (v->kind == ARRAY || v->kind == OBJECT)
		for (size_t i = 0; i < v->len; i++) {
			release(&v->items[i]);
			if (v->kind == OBJECT)
				release(&v->names[i]);
		}
	free(v->items);
	free(v->names);
	free(v->text);
}

static const char *const words[] = {"alpha", "beta", "gam\\\"ma", "del\\tta", "eps\\u00e9ilon", "zeta", "et\\\\a", "th\\neta"};

static void document(buffer *b) {
	random_t r = {4};
	put_char(b, '[');
	for (int i = 0; i < RECORDS; i++) {
		put_text(b, i > 0 ? ",\n  {\"name\": \"" : "\n  {\"name\": \"");
		put_text(b, words[random_next(&r) % 8]);
		put_char(b, ' ');
		put_text(b, words[random_next(&r) % 8]);
		put_text(b, "\", \"id\": ");
		put_number(b, i);
		put_text(b, ", \"balance\": ");
		put_number(b, (int64_t)random_next(&r) - (INT64_C(1) << 31));
		put_text(b, ", \"tags\": [");
		uint32_t tags = random_next(&r) % 6;
		for (uint32_t t = 0; t < tags; t++) {
			put_text(b, t > 0 ? ", \"" : "\"");
			put_text(b, words[random_next(&r) % 8]);
			put_char(b, '"');
		}
		put_text(b, "], \"at\": {\"y\": ");
		put_number(b, random_next(&r) % 1000);
		put_text(b, ", \"x\": ");
		put_number(b, random_next(&r) % 1000);
		put_text(b, ", \"path\": [[1, 2], [], [3]]}, \"active\": ");
		put_text(b, random_next(&r) % 2 ? "true" : "false");
		put_text(b, ", \"parent\": null}");
	}
	put_text(b, "\n]\n");
}

int main(int argc, char **argv) {
	int rounds = amount(argc, argv);
	buffer in = {0};
	document(&in);
	uint64_t sum = CHECKSUM_START;
	for (int round = 0; round < rounds; round++) {
		parser p = {in.text, in.text + in.len};
		value v = {0};
		parse(&p, &v);
		space(&p);
		if (p.at != p.end)
			fail("more than one value");
		buffer out = {0};
		print(&out, &v);
		for (size_t i = 0; i < out.len; i++)
			sum = checksum_byte(sum, (uint8_t)out.text[i]);
		release(&v);
		free(out.text);
	}
	checksum_print(sum);
	return 0;
}
