package job

import (
	"slices"
	"testing"
)

func FuzzSpans(f *testing.F) {
	for _, text := range []string{"", "0", "1,3-5,7", "5-3", "-1", "1-,2", "9,8,7", "1-4,2-3", "0-99999999999999999999", "3,,4", "998-2000"} {
		f.Add(text, uint16(1000), uint16(4))
	}
	f.Fuzz(func(t *testing.T, text string, limit, extra uint16) {
		s := parseSpans(text, int(limit))
		again := parseSpans(s.String(), int(limit))
		if !slices.Equal(s, again) {
			t.Fatalf("%q became %v, then %v", text, s, again)
		}
		for i, v := range s {
			if v.first < 0 || v.last < v.first || v.last >= int(limit) || i > 0 && v.first <= s[i-1].last+1 {
				t.Fatalf("%q became %v", text, s)
			}
		}
		more := s.add([]int{int(extra)})
		if !more.has(int(extra)) || more.total()-s.total() > 1 || more.common(s) != s.total() {
			t.Fatalf("%v and %d became %v", s, extra, more)
		}
		free := s.free(3, int(limit))
		if want := min(3, int(limit)-s.total()); len(free) != want {
			t.Fatalf("free numbers of %v below %d: %v", s, limit, free)
		}
		for _, i := range free {
			if s.has(i) || i >= int(limit) {
				t.Fatalf("%d is not free in %v", i, s)
			}
		}
	})
}

func TestIndexedBaseKeepsTheIndex(t *testing.T) {
	long := "a-job-with-a-name-of-sixty-three-characters-which-is-the-longest"
	if got := indexedBase(long, 12); len(got) != 58 || got[len(got)-4:] != "-12-" {
		t.Errorf("base %q", got)
	}
	if got := indexedBase("pi", 0); got != "pi-0-" {
		t.Errorf("base %q", got)
	}
}
