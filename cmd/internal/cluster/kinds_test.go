package cluster

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/cmd/internal/settings"
)

// What settings may name is what there is.
func TestBuiltinKinds(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(builtin())), settings.BuiltinKinds); diff != "" {
		t.Error(diff)
	}
}
