package deployment

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads"
)

// atOnce is the wait before a decision that goes on where one stopped.
const atOnce = time.Millisecond

// Controller is the Deployment controller. It is stateless and safe for
// concurrent use.
type Controller struct{}

var _ core.Controller = Controller{}

// New returns the controller.
func New() Controller { return Controller{} }

// Describe names Deployment as the parent of ReplicaSets, which it adopts.
func (Controller) Describe() core.Description {
	return core.Description{
		Name:     "deployment",
		Kind:     appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Resource: core.Deployments,
		Children: []core.Child{{
			Kind:     appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
			Resource: core.ReplicaSets,
			Adopt:    true,
		}},
	}
}

// Relate asks for the pods of a Deployment with strategy Recreate, which waits
// until the old ones have ended. A rolling update needs no pods.
func (Controller) Relate(parent core.Object) []core.Relation {
	d, ok := parent.(*appsv1.Deployment)
	if !ok || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || d.Spec.Selector == nil {
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil
	}
	return []core.Relation{{Resource: core.Pods, Namespace: d.Namespace, Selector: selector}}
}

// Decide makes the next step of a roll-out, or adjusts the size.
func (Controller) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	d, ok := seen.Parent.(*appsv1.Deployment)
	if !ok {
		return core.Decision{}, fmt.Errorf("decide deployment: parent is %T", seen.Parent)
	}
	if s := d.Spec.Selector; s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return core.Decision{Events: []core.Note{{
			Type: corev1.EventTypeWarning, Reason: "SelectingAll",
			Message: "This deployment is selecting all pods. A non-empty selector is required.",
		}}}, nil
	}
	r, err := newRound(seen, d)
	if err != nil {
		return core.Decision{}, err
	}
	if err := r.run(); err != nil {
		return core.Decision{}, err
	}
	r.decision.Events = r.notes.List()
	return r.decision, nil
}

// round is the making of one decision.
type round struct {
	seen core.Observation
	d    *appsv1.Deployment
	// replicas is what is wanted; surge and unavailable are resolved against it.
	replicas, surge, unavailable int32

	// sets are all ReplicaSets, oldest first; fresh is the one with the
	// Deployment's template, nil if there is none; old are the others.
	sets  []*set
	fresh *set
	old   []*set

	status   appsv1.DeploymentStatus
	notes    workloads.Notes
	decision core.Decision
}

func newRound(seen core.Observation, d *appsv1.Deployment) (*round, error) {
	r := &round{seen: seen, d: d, replicas: 1, status: *d.Status.DeepCopy()}
	if d.Spec.Replicas != nil {
		r.replicas = *d.Spec.Replicas
	}
	if r.rolling() {
		surge, unavailable, err := workloads.Fenceposts(maxSurge(d), maxUnavailable(d), r.replicas)
		if err != nil {
			return nil, fmt.Errorf("decide deployment %s/%s: %w", d.Namespace, d.Name, err)
		}
		r.surge, r.unavailable = surge, min(unavailable, r.replicas)
	}
	for _, child := range seen.Children {
		if rs, ok := child.(*appsv1.ReplicaSet); ok {
			r.sets = append(r.sets, &set{rs: rs})
		}
	}
	slices.SortStableFunc(r.sets, olderFirst)
	for _, s := range r.sets {
		if r.fresh == nil && workloads.SameTemplate(&s.rs.Spec.Template, &d.Spec.Template) {
			r.fresh = s
		} else {
			r.old = append(r.old, s)
		}
	}
	return r, nil
}

func olderFirst(a, b *set) int {
	return cmp.Or(
		a.rs.CreationTimestamp.Compare(b.rs.CreationTimestamp.Time),
		cmp.Compare(a.rs.Name, b.rs.Name),
	)
}

// run makes one step.
func (r *round) run() error {
	switch {
	case r.d.DeletionTimestamp != nil:
		r.setStatus()
		return nil
	case r.d.Spec.Paused || r.resized():
		r.pausedConditions()
		r.syncRevision()
		r.resize()
		if r.d.Spec.Paused {
			r.cleanUp()
		}
		r.setStatus()
	default:
		r.pausedConditions()
		if err := r.rollOut(); err != nil {
			return err
		}
		if r.complete(&r.d.Status) {
			r.cleanUp()
		}
		r.setStatus()
		r.progress()
	}
	r.collect()
	return nil
}

func (r *round) rollOut() error {
	if !r.rolling() {
		return r.recreate()
	}
	if err := r.needFresh(); err != nil {
		return err
	}
	if !r.growFresh() {
		r.shrinkOld()
	}
	return nil
}

func (r *round) rolling() bool {
	return r.d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType
}

// resized says that the Deployment's size has changed since a running
// ReplicaSet was last told of it.
func (r *round) resized() bool {
	for _, s := range r.sets {
		if told, ok := number(s.rs.Annotations[desiredAnnotation]); ok && s.size() > 0 && told != r.replicas {
			return true
		}
	}
	return false
}

// collect puts what has changed into the decision.
func (r *round) collect() {
	for _, s := range r.sets {
		switch {
		case s.created:
			r.decision.Create = append(r.decision.Create, s.rs)
		case s.changed:
			r.decision.Update = append(r.decision.Update, s.rs)
		}
	}
	r.tellRevision()
}

// tellRevision sets the Deployment's own revision. Annotations count for its
// generation, on which the status of the same decision is fenced, so this is
// done in a round of its own, when there is no status to write.
func (r *round) tellRevision() {
	if r.fresh == nil {
		return
	}
	revision := r.fresh.rs.Annotations[revisionAnnotation]
	if revision == "" || r.d.Annotations[revisionAnnotation] == revision {
		return
	}
	if !apiequality.Semantic.DeepEqual(r.status, r.d.Status) {
		r.decision.RequeueAfter = atOnce
		return
	}
	r.decision.Annotations = map[string]string{revisionAnnotation: revision}
}
