package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/workloads"
)

// deleteActive deletes what still runs of a Job that ends. Whether it counts
// as failed is count's to say.
func (r *round) deleteActive() {
	n := 0
	for i := range r.views {
		if !r.views[i].active {
			continue
		}
		if n++; n > batch {
			r.more = true
			return
		}
		r.delete(&r.views[i], "the job ends")
	}
}

// manage creates or deletes pods, never both in one decision; deleting comes
// first, so that there are never more than parallelism.
func (r *round) manage(f failures) {
	r.setSuspended()
	if r.suspended() {
		r.drop(r.surplus(r.active), "the job is suspended")
		return
	}
	wanted := r.wanted()
	if excess := r.surplus(max(0, r.active-wanted)); len(excess) > 0 {
		r.drop(excess, "more than parallelism allows")
		return
	}
	missing := wanted - r.active
	if r.onlyFailed() {
		missing -= r.terminating
	}
	if missing <= 0 {
		return
	}
	if !r.perIndex() {
		if wait := f.remaining(r.seen.Now); wait > 0 {
			r.again(wait)
			return
		}
	}
	r.create(min(missing, batch))
}

// wanted is how many pods should be active.
func (r *round) wanted() int {
	parallelism := int(value(r.job.Spec.Parallelism, 1))
	if r.job.Spec.Completions != nil {
		return max(0, min(parallelism, int(*r.job.Spec.Completions)-r.succeeded))
	}
	if r.succeeded > 0 {
		return r.active // after a success the rest may finish, none are added
	}
	return parallelism
}

// surplus returns at least n active pods to delete, fewer only if a batch does
// not hold them: of an Indexed Job first those whose index is wrong or taken.
func (r *round) surplus(n int) []*view {
	if n <= 0 && !r.indexed {
		return nil
	}
	chosen, rest := r.misplaced()
	if n > len(chosen) {
		chosen = append(chosen, r.leastWorth(rest, n-len(chosen))...)
	}
	if len(chosen) > batch {
		r.more = true
		chosen = chosen[:batch]
	}
	return chosen
}

// misplaced returns the active pods with no valid index and, of those that
// share one, all but one; and the rest of the active pods.
func (r *round) misplaced() (chosen, rest []*view) {
	pods := make(map[int]int) // by index
	for i := range r.views {
		if v := &r.views[i]; r.indexed && v.active && v.valid {
			pods[v.index]++
		}
	}
	shared := make(map[int][]*view)
	for i := range r.views {
		switch v := &r.views[i]; {
		case !v.active:
		case !v.valid:
			chosen = append(chosen, v)
		case pods[v.index] > 1:
			shared[v.index] = append(shared[v.index], v)
		default:
			rest = append(rest, v)
		}
	}
	for _, index := range slices.Sorted(maps.Keys(shared)) {
		same := shared[index]
		losers := r.leastWorth(same, len(same)-1)
		chosen = append(chosen, losers...)
		rest = append(rest, survivor(same, losers))
	}
	return chosen, rest
}

// survivor returns the only one of same that is not among losers.
func survivor(same, losers []*view) *view {
	lost := make(map[*view]bool, len(losers))
	for _, v := range losers {
		lost[v] = true
	}
	return same[slices.IndexFunc(same, func(v *view) bool { return !lost[v] })]
}

// leastWorth returns the n of some active pods that are given up first.
func (r *round) leastWorth(some []*view, n int) []*view {
	byPod := make(map[*corev1.Pod]*view, len(some))
	pods := make([]*corev1.Pod, len(some))
	for i, v := range some {
		pods[i], byPod[v.pod] = v.pod, v
	}
	chosen := workloads.Surplus(pods, n, r.seen.Now)
	views := make([]*view, len(chosen))
	for i, pod := range chosen {
		views[i] = byPod[pod]
	}
	return views
}

// drop deletes pods that are not to count: their finalizers go first, in the
// record of this decision.
func (r *round) drop(chosen []*view, reason string) {
	for _, v := range chosen {
		if v.tracked {
			r.release(v)
		}
		r.delete(v, reason)
	}
}

// delete deletes an active pod and counts it as terminating from here on.
func (r *round) delete(v *view, reason string) {
	r.decision.Delete = append(r.decision.Delete, workloads.DeletePod(v.pod, reason))
	r.notes.Normal("SuccessfulDelete", "Deleted pod: %s", v.pod.Name)
	r.active--
	r.terminating++
	if workloads.Ready(v.pod) {
		r.ready--
	}
}

func (r *round) create(n int) {
	namer := workloads.NewNamer(r.seen)
	if !r.indexed {
		base := r.job.Name + "-"
		for range n {
			r.add(r.newPod(), base, namer)
		}
		return
	}
	for _, index := range r.freeIndexes(n) {
		pod := r.newPod()
		r.place(pod, index)
		r.add(pod, indexedBase(r.job.Name, index), namer)
	}
}

func (r *round) add(pod *corev1.Pod, base string, namer *workloads.Namer) {
	pod.GenerateName = base
	pod.Name = namer.Name(base)
	r.decision.Create = append(r.decision.Create, pod)
	r.notes.Normal("SuccessfulCreate", "Created pod: %s", pod.Name)
	r.active++
}

func (r *round) newPod() *corev1.Pod {
	pod := workloads.PodFromTemplate(r.job.Namespace, &r.job.Spec.Template)
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return pod
}

// freeIndexes returns up to n indexes that need a pod now. One that waits for
// its back-off is passed over, and asked about again when that is over.
func (r *round) freeIndexes(n int) []int {
	taken := append(slices.Clone(r.done), r.dead...)
	for i := range r.views {
		v := &r.views[i]
		if v.valid && (v.active || r.onlyFailed() && workloads.Terminating(v.pod)) {
			taken = append(taken, span{v.index, v.index})
		}
	}
	for index, v := range r.delayed {
		f := failures{Count: int(totalFailures(v.pod)) + 1, Last: finishTime(v.pod)}
		if wait := f.remaining(r.seen.Now); wait > 0 {
			taken = append(taken, span{index, index})
			r.again(wait)
		}
	}
	return taken.normal().free(n, r.completions)
}

// place gives pod its completion index, in all the ways that a program may
// look for it.
func (r *round) place(pod *corev1.Pod, index int) {
	text := strconv.Itoa(index)
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = text
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	pod.Spec.Hostname = r.job.Name + "-" + text
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			tellIndex(&containers[i])
		}
	}
	if !r.perIndex() {
		return
	}
	var counted, ignored int32
	if last := r.delayed[index]; last != nil {
		counted = failureCount(last.pod)
		ignored = totalFailures(last.pod) - counted
		if last.ignored {
			ignored++
		} else {
			counted++
		}
	}
	pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(counted))
	if ignored > 0 {
		pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
	}
}

// tellIndex adds JOB_COMPLETION_INDEX unless the container sets its own.
func tellIndex(c *corev1.Container) {
	const name = "JOB_COMPLETION_INDEX"
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{
		Name: name,
		ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
			FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation),
		}},
	})
}

// maxIndexedBase is the longest base to which five characters can be added.
const maxIndexedBase = 58

// indexedBase keeps the index whole where a long Job's name is cut.
func indexedBase(name string, index int) string {
	tail := "-" + strconv.Itoa(index) + "-"
	return name[:min(len(name), max(0, maxIndexedBase-len(tail)))] + tail
}
