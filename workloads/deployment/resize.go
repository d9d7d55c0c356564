package deployment

import (
	"cmp"
	"slices"
)

// resize brings a Deployment whose size has changed, or that is paused, to its
// size without moving on with a roll-out: what is added or taken is divided
// among the running ReplicaSets in proportion.
func (r *round) resize() {
	if only := r.onlyRunning(); only != nil {
		if r.rolling() || only.size() >= r.replicas || !r.othersRun(only) {
			r.scale(only, r.replicas)
		}
		return
	}
	if r.saturated() {
		for _, s := range r.old {
			r.scale(s, 0)
		}
		return
	}
	if r.rolling() {
		r.divide()
	}
}

// onlyRunning returns the one ReplicaSet that has pods; if none has, the fresh
// or else the latest; if several have, nil.
func (r *round) onlyRunning() *set {
	var running *set
	for _, s := range r.sets {
		if s.size() == 0 {
			continue
		}
		if running != nil {
			return nil
		}
		running = s
	}
	switch {
	case running != nil:
		return running
	case r.fresh != nil:
		return r.fresh
	case len(r.sets) > 0:
		return r.sets[len(r.sets)-1]
	}
	return nil
}

// saturated says that the fresh ReplicaSet is all that the Deployment needs.
func (r *round) saturated() bool {
	if r.fresh == nil {
		return false
	}
	told, ok := number(r.fresh.rs.Annotations[desiredAnnotation])
	return ok && told == r.replicas && r.fresh.size() == r.replicas && r.fresh.available() == r.replicas
}

// divide gives each running ReplicaSet its share of the difference. The
// largest takes what rounding leaves.
func (r *round) divide() {
	var running []*set
	for _, s := range r.sets {
		if s.size() > 0 {
			running = append(running, s)
		}
	}
	if len(running) == 0 {
		return
	}
	var allowed int32
	if r.replicas > 0 {
		allowed = r.replicas + r.surge
	}
	add := allowed - sizes(running)
	slices.SortStableFunc(running, func(a, b *set) int {
		newer := -olderFirst(a, b)
		if add < 0 {
			newer = -newer // between equals, take from the older
		}
		return cmp.Or(cmp.Compare(b.size(), a.size()), newer)
	})
	shares, given := make([]int32, len(running)), int32(0)
	for i, s := range running {
		if add != 0 {
			shares[i] = r.share(s, add, given)
			given += shares[i]
		}
	}
	shares[0] += add - given
	for i, s := range running {
		r.scale(s, max(0, s.size()+shares[i]))
	}
}

// share is what one ReplicaSet gets of add, of which given is gone already.
func (r *round) share(s *set, add, given int32) int32 {
	if s.size() == 0 || add == given {
		return 0
	}
	fraction := r.fraction(s)
	if add > 0 {
		return min(fraction, add-given)
	}
	return max(fraction, add-given)
}

// fraction is by how much s would change if all kept their proportions.
func (r *round) fraction(s *set) int32 {
	if r.replicas == 0 {
		return -s.size()
	}
	before, ok := number(s.rs.Annotations[maxAnnotation])
	if !ok || before == 0 {
		// It was not told: assume the size that was last seen.
		if before = r.d.Status.Replicas; before == 0 {
			return 0
		}
	}
	product := int64(s.size()) * int64(r.replicas+r.surge)
	return int32((product+int64(before)/2)/int64(before)) - s.size()
}
