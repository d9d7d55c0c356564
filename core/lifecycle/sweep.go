package lifecycle

import (
	"cmp"
	"context"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

func (l *Lifecycle) noticeJob(c *core.Change) {
	job, ok := c.Object.(*batchv1.Job)
	if ok && !c.Deleted && job.Spec.TTLSecondsAfterFinished != nil {
		if _, finished := finishTime(job); finished {
			l.queue.add(task{expire, c.Key}, 0)
		}
	}
}

func finishTime(job *batchv1.Job) (time.Time, bool) {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// expireJob deletes a finished job when its time is over. It returns when to
// look again.
func (l *Lifecycle) expireJob(ctx context.Context, key core.Key) (time.Duration, error) {
	o, ok := l.client.Snapshot().Get(key)
	job, isJob := o.(*batchv1.Job)
	if !ok || !isJob || job.DeletionTimestamp != nil || job.Spec.TTLSecondsAfterFinished == nil {
		return 0, nil
	}
	finished, isFinished := finishTime(job)
	if !isFinished {
		return 0, nil
	}
	if left := time.Until(finished.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)); left > 0 {
		return left, nil
	}
	return 0, l.remove(ctx, key, job, metav1.DeletePropagationForeground)
}

// sweep removes, each minute, what is only known to be old by looking at it.
func (l *Lifecycle) sweep(ctx context.Context) error {
	for {
		wait(ctx, sweepEvery)
		if ctx.Err() != nil {
			return nil
		}
		l.sweepEvents(ctx)
		l.sweepPods(ctx)
	}
}

type aged struct {
	key    core.Key
	object core.Object
	at     time.Time
}

// sweepEvents removes events that are old, and the oldest if there are too
// many.
func (l *Lifecycle) sweepEvents(ctx context.Context) {
	snapshot := l.client.Snapshot()
	all := make([]aged, 0, snapshot.Count(core.Events))
	for key, o := range snapshot.List(core.Events, "") {
		if event, ok := o.(*corev1.Event); ok {
			all = append(all, aged{key, o, eventTime(event)})
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return a.at.Compare(b.at) })
	surplus := max(len(all)-l.config.MaxEvents, 0)
	oldest := time.Now().Add(-l.config.EventTTL)
	for i, e := range all {
		if i >= surplus && e.at.After(oldest) {
			break
		}
		l.drop(ctx, e)
	}
}

func eventTime(e *corev1.Event) time.Time {
	latest := e.CreationTimestamp.Time
	for _, at := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if at.After(latest) {
			latest = at
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(latest) {
		latest = e.Series.LastObservedTime.Time
	}
	return latest
}

// sweepPods removes the oldest ended pods if there are too many, and looks
// after pods whose node or Job went while nobody watched.
func (l *Lifecycle) sweepPods(ctx context.Context) {
	snapshot := l.client.Snapshot()
	var over []aged
	for key, o := range snapshot.List(core.Pods, "") {
		pod, ok := o.(*corev1.Pod)
		if !ok {
			continue
		}
		if pod.Spec.NodeName != "" {
			if _, there := snapshot.Get(nodeKey(pod.Spec.NodeName)); !there {
				l.queue.add(task{reap, key}, reapAfter)
			}
		}
		if abandoned(snapshot, pod) { // one that has no owner either is found by nothing else
			l.queue.add(task{collect, key}, 0)
		}
		if pod.DeletionTimestamp == nil && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed) {
			over = append(over, aged{key, o, pod.CreationTimestamp.Time})
		}
	}
	surplus := len(over) - l.config.MaxTerminatedPods
	if surplus <= 0 {
		return
	}
	slices.SortFunc(over, func(a, b aged) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key.Name, b.key.Name)) })
	for _, p := range over[:surplus] {
		l.drop(ctx, p)
	}
}

func (l *Lifecycle) drop(ctx context.Context, a aged) {
	_, _, err := l.client.Delete(ctx, a.key, core.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(a.object.GetUID())), GracePeriodSeconds: new(int64),
	})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		l.log.Warn("old object not removed", "object", a.key.String(), "err", err)
	}
}
