package job

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// span is a run of indexes, both ends included.
type span struct{ first, last int }

// spans are disjoint, in order, and never adjacent.
type spans []span

// parseSpans reads the text form, "1,3-5,7". What is malformed or not below
// limit is left out: the text may be that of a Job that had more completions.
func parseSpans(text string, limit int) spans {
	if text == "" {
		return nil
	}
	var list spans
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		if err != nil || first < 0 || first >= limit {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(high); err != nil || last < first {
				continue
			}
		}
		list = append(list, span{first, min(last, limit-1)})
	}
	return list.normal()
}

// normal sorts and joins the spans in place.
func (s spans) normal() spans {
	slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	joined := s[:0]
	for _, next := range s {
		if n := len(joined); n > 0 && next.first <= joined[n-1].last+1 {
			joined[n-1].last = max(joined[n-1].last, next.last)
			continue
		}
		joined = append(joined, next)
	}
	return joined
}

// add returns the spans with single indexes added. It changes neither.
func (s spans) add(indexes []int) spans {
	if len(indexes) == 0 {
		return s
	}
	all := make(spans, len(s), len(s)+len(indexes))
	copy(all, s)
	for _, i := range indexes {
		all = append(all, span{i, i})
	}
	return all.normal()
}

func (s spans) total() int {
	n := 0
	for _, v := range s {
		n += v.last - v.first + 1
	}
	return n
}

func (s spans) has(index int) bool {
	_, found := slices.BinarySearchFunc(s, index, func(v span, i int) int {
		switch {
		case v.last < i:
			return -1
		case v.first > i:
			return 1
		}
		return 0
	})
	return found
}

// String is the text form: two adjacent numbers stand singly, three or more
// as a range.
func (s spans) String() string {
	var b []byte
	for _, v := range s {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(v.first), 10)
		if v.last > v.first {
			separator := byte('-')
			if v.last == v.first+1 {
				separator = ','
			}
			b = append(b, separator)
			b = strconv.AppendInt(b, int64(v.last), 10)
		}
	}
	return string(b)
}

// common counts the indexes that are in both.
func (s spans) common(o spans) int {
	n := 0
	for i, j := 0, 0; i < len(s) && j < len(o); {
		n += max(0, min(s[i].last, o[j].last)-max(s[i].first, o[j].first)+1)
		if s[i].last < o[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}

// free returns the first n numbers below limit that are not in s.
func (s spans) free(n, limit int) []int {
	list := make([]int, 0, n)
	next := 0
	for _, v := range append(slices.Clip(s), span{limit, limit}) {
		for ; next < v.first && next < limit && len(list) < n; next++ {
			list = append(list, next)
		}
		next = max(next, v.last+1)
	}
	return list
}
