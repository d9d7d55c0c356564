package deployment

import (
	"cmp"
	"math"
	"slices"

	"github.com/weftrun/weft/core"
)

// cleanUp deletes the oldest ReplicaSets beyond the revisions to keep, but
// only those that surely have no pods.
func (r *round) cleanUp() {
	keep := r.d.Spec.RevisionHistoryLimit
	if keep == nil || *keep == math.MaxInt32 {
		return
	}
	idle := slices.DeleteFunc(slices.Clone(r.old), func(s *set) bool { return s.rs.DeletionTimestamp != nil })
	surplus := len(idle) - int(*keep)
	if surplus <= 0 {
		return
	}
	slices.SortStableFunc(idle, func(a, b *set) int {
		return cmp.Or(cmp.Compare(a.revision(), b.revision()), olderFirst(a, b))
	})
	for _, s := range idle[:surplus] {
		rs := s.rs
		if s.changed || s.size() != 0 || rs.Status.Replicas != 0 || rs.Generation > rs.Status.ObservedGeneration {
			continue
		}
		r.decision.Delete = append(r.decision.Delete, core.Deletion{
			Key: core.KeyFor(core.ReplicaSets, rs), UID: rs.UID, Reason: "beyond the revision history limit",
		})
	}
}
