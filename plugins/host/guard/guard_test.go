package guard

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestOrder(t *testing.T) {
	whole := Order{Path: "/bin/a b", Args: []string{"a", "", "--x=\n1"}, Env: []string{"A=", "B=2"}}
	data, err := whole.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(data)
	if err != nil || got.Path != whole.Path || !slices.Equal(got.Args, whole.Args) || !slices.Equal(got.Env, whole.Env) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", "\x00", "\x00\x00", "1\x00a\x00\x00", "0\x00a\x00b\x00\x00", "9\x00a\x00b\x00\x00", "-1\x00a\x00b\x00\x00", "x\x00a\x00b\x00\x00", string(data[:len(data)-1])} {
		if got, err := decode([]byte(text)); !errors.Is(err, errOrder) {
			t.Errorf("of %q got %q, %v", text, got, err)
		}
	}
	if _, err := (Order{Path: "a", Args: []string{"b\x00c"}}).Encode(); err == nil || !strings.Contains(err.Error(), `"b\x00c" cannot be in a command`) {
		t.Errorf("got %v", err)
	}
}
