package registry

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/weftrun/weft/core"
)

// custom is what a definition adds to an entry.
type custom struct{}

func (c *custom) types() (managedfields.TypeConverter, error) {
	return managedfields.NewDeducedTypeConverter(), nil
}

func (c *custom) prune(core.Object, string, *request) error { return nil }

type compiledKey struct {
	uid        types.UID
	generation int64
}

func (r *Registry) refresh(core.Snapshot) {}
