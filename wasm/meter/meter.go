package meter

import (
	"errors"
	"fmt"
)

// The sentinels of Rewrite.
var (
	// ErrUnsupported: a module that may well be valid, but uses what this pass
	// does not know, or exceeds its bounds; the text names it. It may not have been
	// read to its end, so do not feed it to an engine that allocates whatever a
	// module claims to hold.
	ErrUnsupported = errors.New("meter: unsupported")
	// ErrMalformed: no valid module.
	ErrMalformed = errors.New("meter: malformed module")
)

// The import that a rewritten module needs, of type () -> (i64), and defaults.
const (
	ImportModule = "weft:meter"
	ImportName   = "refill"

	// DefaultBound is 1,024 units, some 200 ns.
	DefaultBound           = 1024
	DefaultMaxTableEntries = 1 << 20
	// DefaultMaxStack is 32 MiB by estimate, which is mostly twice as much as
	// calls take.
	DefaultMaxStack = 32 << 20

	// StackOverflow is the function in which a guest traps that calls too deep.
	StackOverflow = "stack overflow"

	// DefaultMaxGrowth is far above the 1.1 that compilers' output grows by.
	DefaultMaxGrowth = 12
)

// Options says how to rewrite. The zero value of a field means its default.
type Options struct {
	// Bound is a third of the weight above which paths that meet or part get a check of
	// their own; for functions' entries it is a quarter of Bound, and behind calls
	// an eighth for each 64 bytes of the caller's frame. Lower is more precise and slower.
	Bound int64
	// MaxTableEntries bounds each table, at the start and by growth.
	MaxTableEntries uint32
	// MaxStack bounds the bytes of the engine's stack that a guest's calls take,
	// by an estimate; see the package comment.
	MaxStack int64
	// MaxGrowth bounds the output's size, as a multiple of the input's (and 4
	// KiB more): a module that would grow further is refused.
	MaxGrowth int

	omit kind // checks to leave out, for tests that each is needed
}

// Info is what Rewrite did.
type Info struct {
	Functions int // that the module defines
	Checks    int // in its functions
	Entries   int // of these at functions' entries
	Loops     int // and at loops' headers
	Instrs    int // instructions read
	// Effort is an estimate of how hard the module is to compile, beside its size:
	// what meets where paths do, of which there may be the product of all that a
	// function has. A C library's functions sum up to 40,000.
	Effort int64
	// Metered is false if the module has no code, and was returned unchanged.
	Metered bool
}

// Limits that no compiler's output comes near.
const (
	maxLocals  = 50_000   // of a function, as in other engines
	maxBody    = 16 << 20 // bytes of a function
	maxNesting = 1 << 16
	// maxLoopLocals bounds the product of a function's loops and locals, with
	// the square of which the time to compile may grow.
	maxLoopLocals = 2 << 20
	maxTables     = 16
	maxInit       = 32 << 20 // bytes of data that memory.init copies at once
)

// Rewrite returns a metered copy of the module. It keeps no reference to module
// and may return it itself if there is nothing to do. Its errors wrap
// one of the sentinels. It may be called concurrently.
func Rewrite(module []byte, o Options) (out []byte, info Info, err error) {
	if o.Bound <= 0 {
		o.Bound = DefaultBound
	}
	if o.MaxTableEntries == 0 {
		o.MaxTableEntries = DefaultMaxTableEntries
	}
	if o.MaxStack <= 0 {
		o.MaxStack = DefaultMaxStack
	}
	if o.MaxGrowth <= 0 {
		o.MaxGrowth = DefaultMaxGrowth
	}
	m, err := decode(module)
	if err != nil {
		return nil, info, err
	}
	info.Functions = len(m.bodies)
	if len(m.bodies) == 0 {
		return module, info, nil
	}
	w := newRewriter(m, o)
	if err := w.survey(); err != nil {
		return nil, info, err
	}
	if w.m.usesInit && w.m.dataBytes > maxInit {
		return nil, info, fmt.Errorf("%w: memory.init of up to %d bytes", ErrUnsupported, w.m.dataBytes)
	}
	if err := w.functions(); err != nil {
		return nil, info, err
	}
	if out, err = w.encode(); err != nil {
		return nil, info, err
	}
	if most := len(module)*o.MaxGrowth + 4<<10; len(out) > most {
		return nil, info, fmt.Errorf("%w: it would grow from %d to %d bytes", ErrUnsupported, len(module), len(out))
	}
	w.info.Functions, w.info.Metered = info.Functions, true
	return out, w.info, nil
}
