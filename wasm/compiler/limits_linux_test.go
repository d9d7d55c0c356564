package compiler_test

import (
	"strings"
	"testing"

	"github.com/weftrun/weft/wasm/compiler"
)

// Where memory is short, the kernel ends compilers before anything else.
func TestSparedLeast(t *testing.T) {
	p := open(t, compiler.Config{})
	if err := p.Compile(t.Context(), "score", "score"); err == nil || !strings.Contains(err.Error(), "the score is 1000") {
		t.Error(err)
	}
}
