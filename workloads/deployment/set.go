package deployment

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/workloads"
)

// Annotations by which kubectl and this controller know a ReplicaSet's place
// in its Deployment's history.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"

	// maxHistory bounds the text of historyAnnotation.
	maxHistory = 2000
)

// ownAnnotations are not passed on from a Deployment to its ReplicaSets.
var ownAnnotations = []string{
	corev1.LastAppliedConfigAnnotation, revisionAnnotation, historyAnnotation,
	desiredAnnotation, maxAnnotation, appsv1.DeprecatedRollbackTo,
}

// set is a ReplicaSet as this round would have it.
type set struct {
	// rs is shared until changed or created is set.
	rs               *appsv1.ReplicaSet
	changed, created bool
}

// edit returns the ReplicaSet for change, of its annotations, replicas and
// minReadySeconds only.
func (s *set) edit() *appsv1.ReplicaSet {
	if !s.changed && !s.created {
		rs := *s.rs
		rs.Annotations = make(map[string]string, len(s.rs.Annotations)+3)
		maps.Copy(rs.Annotations, s.rs.Annotations)
		s.rs, s.changed = &rs, true
	}
	return s.rs
}

// annotate sets one annotation.
func (s *set) annotate(name, value string) {
	if s.rs.Annotations[name] != value {
		s.edit().Annotations[name] = value
	}
}

// size is how many pods the ReplicaSet asks for.
func (s *set) size() int32 {
	if s.rs.Spec.Replicas == nil {
		return 1
	}
	return *s.rs.Spec.Replicas
}

// available is how many pods surely are: never more than are asked for.
func (s *set) available() int32 { return min(s.rs.Status.AvailableReplicas, s.size()) }

// observed says that the ReplicaSet's controller knows its present size, and
// has done what it set out to do for earlier ones.
func (s *set) observed() bool {
	return !s.changed && !s.created && s.rs.Status.ObservedGeneration >= s.rs.Generation
}

// pods is how many pods an observed ReplicaSet has at most: those it may
// create yet, and those it has not deleted yet.
func (s *set) pods() int32 { return max(s.size(), s.rs.Status.Replicas) }

func (s *set) revision() int64 {
	n, err := strconv.ParseInt(s.rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func number(text string) (int32, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), err == nil
}

func sizes(sets []*set) (sum int32) {
	for _, s := range sets {
		sum += s.size()
	}
	return sum
}

// scale gives s a size and tells it the Deployment's. It returns whether the
// size has changed.
func (r *round) scale(s *set, size int32) bool {
	r.tell(s)
	before := s.size()
	if before == size {
		return false
	}
	s.edit().Spec.Replicas = &size
	direction := "up"
	if size < before {
		direction = "down"
	}
	r.notes.Normal("ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, s.rs.Name, before, size)
	return true
}

// tell notes on s how large the Deployment is, by which a later change of that
// is recognised and divided among the ReplicaSets.
func (r *round) tell(s *set) {
	s.annotate(desiredAnnotation, strconv.Itoa(int(r.replicas)))
	s.annotate(maxAnnotation, strconv.Itoa(int(r.replicas+r.surge)))
}

// needFresh finds or creates the ReplicaSet with the Deployment's template and
// makes it the newest revision.
func (r *round) needFresh() error {
	if r.fresh != nil {
		r.syncRevision()
		return nil
	}
	if refused := r.createRefused(); refused != nil && refused.Reason == string(metav1.StatusReasonAlreadyExists) {
		// The name belongs to another template with the same hash, or to a
		// stranger: draw the next one.
		next := int32(1)
		if r.status.CollisionCount != nil {
			next = *r.status.CollisionCount + 1
		}
		r.status.CollisionCount = &next
	}
	rs, err := r.newReplicaSet()
	if err != nil {
		return err
	}
	r.fresh = &set{rs: rs, created: true}
	r.sets = append(r.sets, r.fresh)
	size := r.freshSize()
	rs.Spec.Replicas = &size
	r.tell(r.fresh)
	r.passOn()
	if size > 0 {
		r.notes.Normal("ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", rs.Name, size)
	}
	r.creating()
	return nil
}

// createRefused returns how the last decision's ReplicaSet was refused, if so.
func (r *round) createRefused() *core.Failure {
	for i := range r.seen.Failures {
		if f := &r.seen.Failures[i]; f.Verb == "create" {
			return f
		}
	}
	return nil
}

func (r *round) newReplicaSet() (*appsv1.ReplicaSet, error) {
	template := *r.d.Spec.Template.DeepCopy()
	hash, err := workloads.TemplateHash(&template, r.status.CollisionCount)
	if err != nil {
		return nil, fmt.Errorf("decide deployment %s/%s: %w", r.d.Namespace, r.d.Name, err)
	}
	const label = appsv1.DefaultDeploymentUniqueLabelKey
	if template.Labels == nil {
		template.Labels = make(map[string]string, 1)
	}
	template.Labels[label] = hash
	selector := r.d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = make(map[string]string, 1)
	}
	selector.MatchLabels[label] = hash
	return &appsv1.ReplicaSet{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{
			Name: r.d.Name + "-" + hash, Namespace: r.d.Namespace,
			Labels: maps.Clone(template.Labels), Annotations: make(map[string]string),
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32), MinReadySeconds: r.d.Spec.MinReadySeconds,
			Selector: selector, Template: template,
		},
	}, nil
}

// syncRevision makes an existing fresh ReplicaSet the newest revision: one
// that a roll-back found again gets a new number.
func (r *round) syncRevision() {
	if r.fresh == nil {
		return
	}
	r.passOn()
	if r.fresh.rs.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		r.fresh.edit().Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	}
	r.found()
}

// passOn gives the fresh ReplicaSet the Deployment's annotations and its
// revision.
func (r *round) passOn() {
	for name, value := range r.d.Annotations {
		if !slices.Contains(ownAnnotations, name) {
			r.fresh.annotate(name, value)
		}
	}
	var newest int64
	for _, s := range r.old {
		newest = max(newest, s.revision())
	}
	before := r.fresh.revision()
	if before > newest {
		return
	}
	if before > 0 {
		r.fresh.annotate(historyAnnotation, longer(r.fresh.rs.Annotations[historyAnnotation], before))
	}
	r.fresh.annotate(revisionAnnotation, strconv.FormatInt(newest+1, 10))
}

// longer adds a revision to a history, and drops the oldest if it grows long.
func longer(history string, revision int64) string {
	if history == "" {
		return strconv.FormatInt(revision, 10)
	}
	history += "," + strconv.FormatInt(revision, 10)
	for len(history) > maxHistory {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}
