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

// Without returns options that leave out checks of some kinds.
func (o Options) Without(k Kind) Options {
	o.omit = k
	return o
}
