package registry

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// custom is what a definition adds to an entry.
type custom struct{}

type compiledKey struct {
	uid        types.UID
	generation int64
}

func (r *Registry) refresh(core.Snapshot) {}
