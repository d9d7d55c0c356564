package core_test

import (
	"strings"
	"testing"

	"github.com/weftrun/weft/core"
)

func TestNestsDeeper(t *testing.T) {
	for _, tc := range []struct {
		data string
		most int
		want bool
	}{
		{"", 0, false},
		{"1", 0, false},
		{"{}", 0, true},
		{`{"a": [1], "b": {}}`, 2, false},
		{`{"a": [1]}`, 1, true},
		{`"[[["`, 0, false},
		{`["\"[", {}]`, 2, false},
		{`["\\", [[]]]`, 2, true},
		{strings.Repeat("[]", 1000), 1, false},
		{strings.Repeat("[", 201), 200, true},
		{strings.Repeat("[", 200), 200, false},
	} {
		if got := core.NestsDeeper([]byte(tc.data), tc.most); got != tc.want {
			t.Errorf("%.40s, %d: got %v, want %v", tc.data, tc.most, got, tc.want)
		}
	}
}
