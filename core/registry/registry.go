package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// Config configures a Registry.
type Config struct {
	// Store keeps the state; required.
	Store core.Store
	// Strategies are the kinds that are always there, such as [Builtin].
	// Optional: none.
	Strategies []*Strategy
	// Admission is asked, in order, about each write before it is validated.
	// Optional: none.
	Admission []AdmissionFunc
	// Logger is where Run tells of definitions. Optional: nothing is logged.
	Logger *slog.Logger
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if c.Store == nil {
		return errors.New("registry: Store is required")
	}
	seen := map[core.GroupResource]bool{}
	for i, s := range c.Strategies {
		if s == nil || s.New == nil || s.Kind.Resource == "" || s.Kind.Kind == "" || s.Kind.Storage == "" {
			return fmt.Errorf("registry: Strategies[%d]: New and Kind's Kind, Resource and Storage are required", i)
		}
		if seen[s.Kind.GroupResource()] {
			return fmt.Errorf("registry: Strategies[%d]: %s is there twice", i, s.Kind.GroupResource())
		}
		seen[s.Kind.GroupResource()] = true
	}
	return nil
}

// Registry is the one write path over a store. It implements core.Client. All
// methods may be called concurrently.
type Registry struct {
	store     core.Store
	admission []AdmissionFunc
	log       *slog.Logger

	builtin []*entry
	kinds   atomic.Pointer[catalogue]

	// compiling guards compiled, the custom kinds of the catalogue, so that a
	// definition is compiled once.
	compiling sync.Mutex
	compiled  map[compiledKey]*entry
}

var _ core.Client = (*Registry)(nil)

// New returns a Registry over c.Store. It serves the kinds of c.Strategies and
// of the definitions that the store holds already; Run follows those that come
// later.
func New(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{store: c.Store, admission: c.Admission, log: c.Logger, compiled: map[compiledKey]*entry{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range c.Strategies {
		if s.Kind.GroupResource() == core.Definitions {
			s = defining(s)
		}
		r.builtin = append(r.builtin, newEntry(s))
	}
	r.kinds.Store(newCatalogue(1, r.builtin))
	r.refresh(c.Store.Snapshot())
	return r, nil
}

// Snapshot implements core.Reader.
func (r *Registry) Snapshot() core.Snapshot { return r.store.Snapshot() }

// WaitFor implements core.Reader.
func (r *Registry) WaitFor(ctx context.Context, revision int64) (core.Snapshot, error) {
	return r.store.WaitFor(ctx, revision)
}

// Watch implements core.Reader.
func (r *Registry) Watch(resource core.GroupResource, namespace string, from int64) (core.Watch, error) {
	return r.store.Watch(resource, namespace, from)
}

// Kinds implements core.Kinds.
func (r *Registry) Kinds() iter.Seq[*core.Kind] {
	c := r.kinds.Load()
	return func(yield func(*core.Kind) bool) {
		for _, e := range c.ordered {
			if !yield(e.kind) {
				return
			}
		}
	}
}

// KindOf implements core.Kinds.
func (r *Registry) KindOf(resource core.GroupResource) (*core.Kind, bool) {
	e, ok := r.kinds.Load().byResource[resource]
	if !ok {
		return nil, false
	}
	return e.kind, true
}

// KindNamed implements core.Kinds.
func (r *Registry) KindNamed(kind schema.GroupKind) (*core.Kind, bool) {
	e, ok := r.kinds.Load().byKind[kind]
	if !ok {
		return nil, false
	}
	return e.kind, true
}

// Generation implements core.Kinds.
func (r *Registry) Generation() int64 { return r.kinds.Load().generation }

// Durability returns how the objects of a resource survive, for a store's
// configuration: as the strategies say, and durable for all other kinds, which
// are custom. It is a pure function.
func Durability(strategies []*Strategy) func(core.GroupResource) core.Durability {
	known := make(map[core.GroupResource]core.Durability, len(strategies))
	for _, s := range strategies {
		known[s.Kind.GroupResource()] = s.Kind.Durability
	}
	return func(resource core.GroupResource) core.Durability { return known[resource] }
}
