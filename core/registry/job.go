package registry

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/weftrun/weft/core"
)

// The labels of a job's pods before they had a prefix; they are still given.
const (
	oldControllerUIDLabel = "controller-uid"
	oldJobNameLabel       = "job-name"
)

func jobStrategy() *Strategy {
	return typed[*batchv1.Job]{
		kind: core.Kind{
			Group: core.Jobs.Group, Kind: "Job", ListKind: "JobList", Resource: core.Jobs.Resource, Singular: "job",
			Categories: []string{"all"}, Namespaced: true, Storage: "v1", Subresources: []string{"status"},
		},
		create: func() *batchv1.Job { return &batchv1.Job{} },
		columns: append(append([]metav1.TableColumnDefinition{
			nameColumn(),
			column("Status", "string", "What the job does, or how it ended."),
			column("Completions", "string", "How many of the wanted pods have succeeded."),
			column("Duration", "string", "How long the job took, or runs so far."),
			ageColumn(),
		}, containerColumns()...), wide("Selector", "string", "Which pods are its own.")),
		cells: jobCells,
		fields: func(j *batchv1.Job) map[string]string {
			return map[string]string{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		},
		defaults:       defaultJob,
		prepareCreate:  prepareJob,
		prepareUpdate:  func(j, old *batchv1.Job) { j.Status = old.Status },
		validate:       validateJob,
		validateUpdate: validateJobUpdate,
		warnings: func(j, old *batchv1.Job) []string {
			var before *corev1.PodTemplateSpec
			if old != nil {
				before = &old.Spec.Template
			}
			return templateWarnings(&j.Spec.Template, before)
		},
		copyStatus:     func(dst, src *batchv1.Job) { dst.Status = src.Status },
		validateStatus: validateJobStatus,
		specChanged:    func(j, old *batchv1.Job) bool { return !sameEncoding(&j.Spec, &old.Spec) },
	}.strategy()
}

func jobCells(j *batchv1.Job, now time.Time) []any {
	names, images := containerCells(j.Spec.Template.Spec.Containers)
	took := ""
	switch start, end := j.Status.StartTime, j.Status.CompletionTime; {
	case start == nil:
	case end == nil:
		took = duration.HumanDuration(now.Sub(start.Time))
	default:
		took = duration.HumanDuration(end.Sub(start.Time))
	}
	return []any{
		j.Name, jobStatus(j), jobCompletions(j), took, age(j.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(j.Spec.Selector),
	}
}

// jobStatus is the most telling condition of a job.
func jobStatus(j *batchv1.Job) string {
	switch {
	case jobIs(j, batchv1.JobComplete):
		return "Complete"
	case jobIs(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case jobIs(j, batchv1.JobSuspended):
		return "Suspended"
	case jobIs(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case jobIs(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobIs(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobCompletions(j *batchv1.Job) string {
	switch {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

const defaultBackoffLimit = 6

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = new(int32(1))
	}
	defaultNil(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		defaultNil(&s.BackoffLimit, math.MaxInt32)
	}
	defaultNil(&s.BackoffLimit, defaultBackoffLimit)
	defaultNil(&s.CompletionMode, batchv1.NonIndexedCompletion)
	defaultNil(&s.Suspend, false)
	defaultNil(&s.ManualSelector, false)
	if s.PodFailurePolicy != nil {
		defaultNil(&s.PodReplacementPolicy, batchv1.Failed)
		for i := range s.PodFailurePolicy.Rules {
			for k := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				defaultTo(&s.PodFailurePolicy.Rules[i].OnPodConditions[k].Status, corev1.ConditionTrue)
			}
		}
	}
	defaultNil(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	defaultPodSpec(&s.Template.Spec)
	labelJob(j)
}

// labelJob gives a job without labels those of its pods.
func labelJob(j *batchv1.Job) {
	if len(j.Labels) == 0 && len(j.Spec.Template.Labels) > 0 {
		j.Labels = maps.Clone(j.Spec.Template.Labels)
	}
}

// prepareJob makes the selector and the labels by which a job knows its pods,
// unless its user wants to choose them. It needs the job's UID.
func prepareJob(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	if isTrue(j.Spec.ManualSelector) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = make(map[string]string, 4)
	}
	// What the user has set wrongly stays, for validation to refuse.
	set := func(m map[string]string, key, value string) {
		if _, there := m[key]; !there {
			m[key] = value
		}
	}
	set(t.Labels, oldJobNameLabel, j.Name)
	set(t.Labels, batchv1.JobNameLabel, j.Name)
	set(t.Labels, oldControllerUIDLabel, string(j.UID))
	set(t.Labels, batchv1.ControllerUidLabel, string(j.UID))
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = make(map[string]string, 1)
	}
	set(j.Spec.Selector.MatchLabels, batchv1.ControllerUidLabel, string(j.UID))
	labelJob(j)
}
