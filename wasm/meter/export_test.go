package meter

// Kind is exported for tests, as are the kinds of checks.
type Kind = kind

// The kinds.
const (
	LoopCheck     = loopCheck
	CycleCheck    = cycleCheck
	TreeCheck     = treeCheck
	IndirectCheck = indirectCheck
	ReturnCheck   = returnCheck
	BulkCheck     = bulkCheck
	UnwindCheck   = unwindCheck
	StraightCheck = straightCheck
	CycleDepth    = cycleDepth
	IndirectDepth = indirectDepth
	OnceDepth     = onceDepth
)

// Wide returns options by which loops of so many locals are wide.
func (o Options) Wide(locals int) Options {
	o.wide = locals
	return o
}

// Without returns options that leave out checks of some kinds.
func (o Options) Without(k Kind) Options {
	o.omit = k
	return o
}
