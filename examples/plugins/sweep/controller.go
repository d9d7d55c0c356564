package main

import (
	"context"
	_ "embed"
	"fmt"
	"hash/fnv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
)

//go:embed sweep.yaml
var definition []byte

// Complete is the condition that says whether every Job has ended.
const Complete = "Complete"

// valueVariable holds the value in the environment of what is run.
const valueVariable = "VALUE"

// maxFailedValues bounds the values that the status names.
const maxFailedValues = 100

// Controller decides which Jobs a Sweep should have. It holds no state.
type Controller struct {
	definition *apiextensionsv1.CustomResourceDefinition
}

// New returns the controller.
func New() (*Controller, error) {
	d, err := plugins.ParseDefinition(definition)
	return &Controller{definition: d}, err
}

// Describe says which kind this decides about, and that its children are Jobs.
func (c *Controller) Describe() core.Description {
	return plugins.Describe("sweep", c.definition, core.Child{Kind: batchv1.SchemeGroupVersion.WithKind("Job"), Resource: core.Jobs})
}

// Relate needs to see nothing but the Jobs, which come as children.
func (c *Controller) Relate(core.Object) []core.Relation { return nil }

// Decide deletes the Jobs that the spec does not ask for, starts as many more
// as may run, and counts how those that there are stand.
func (c *Controller) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	sweep, err := plugins.Decode[Sweep](seen.Parent)
	if err != nil {
		return core.Decision{}, err
	}
	jobs, decision := claim(sweep, seen.Children)
	status := count(sweep, jobs)
	if seen.Parent.GetDeletionTimestamp() == nil && !sweep.Spec.Suspend {
		start(sweep, jobs, &status, &decision)
	}
	conclude(sweep, &status, seen, &decision)
	decision.Status, err = plugins.WithStatus(seen.Parent, status)
	return decision, err
}

// claim finds the Job of each value, and decides to delete those of none.
func claim(sweep *Sweep, children []core.Object) (map[string]*batchv1.Job, core.Decision) {
	wanted := make(map[string]bool, len(sweep.Spec.Values))
	for _, value := range sweep.Spec.Values {
		wanted[jobName(sweep, value)] = true
	}
	var decision core.Decision
	jobs := make(map[string]*batchv1.Job, len(children))
	for _, child := range children {
		job, ok := child.(*batchv1.Job)
		switch {
		case !ok:
		case wanted[job.Name]:
			jobs[job.Name] = job
		case job.DeletionTimestamp == nil:
			decision.Delete = append(decision.Delete, core.Deletion{
				Key: core.KeyFor(core.Jobs, job), UID: job.UID, Reason: "the spec has changed",
			})
		}
	}
	return jobs, decision
}

// count tells how the Jobs stand.
func count(sweep *Sweep, jobs map[string]*batchv1.Job) Status {
	status := Status{Total: int32(len(sweep.Spec.Values)), ObservedGeneration: sweep.Generation}
	for _, value := range sweep.Spec.Values {
		job, ok := jobs[jobName(sweep, value)]
		switch {
		case !ok:
		case holds(job, batchv1.JobComplete):
			status.Succeeded++
		case holds(job, batchv1.JobFailed):
			status.Failed++
			if len(status.FailedValues) < maxFailedValues {
				status.FailedValues = append(status.FailedValues, value)
			}
		default:
			status.Running++
		}
	}
	return status
}

// start decides to create Jobs, in the order of the values, while fewer run
// than may.
func start(sweep *Sweep, jobs map[string]*batchv1.Job, status *Status, decision *core.Decision) {
	for _, value := range sweep.Spec.Values {
		if status.Running >= sweep.Spec.Parallelism {
			return
		}
		if _, started := jobs[jobName(sweep, value)]; started {
			continue
		}
		job := newJob(sweep, value)
		status.Running++
		decision.Create = append(decision.Create, job)
		decision.Events = append(decision.Events, core.Note{
			Type: corev1.EventTypeNormal, Reason: "SuccessfulCreate", Message: "Created job: " + job.Name,
		})
	}
}

// conclude sets the phase and the condition, and tells once of the end.
func conclude(sweep *Sweep, status *Status, seen core.Observation, decision *core.Decision) {
	now := metav1.NewTime(seen.Now)
	complete := metav1.Condition{
		Type: Complete, Status: metav1.ConditionFalse, Reason: "Running", LastTransitionTime: now, ObservedGeneration: sweep.Generation,
		Message: fmt.Sprintf("%d of %d Jobs have ended", status.Succeeded+status.Failed, status.Total),
	}
	event := corev1.EventTypeNormal
	switch {
	case status.Succeeded == status.Total:
		complete.Status, complete.Reason = metav1.ConditionTrue, "Complete"
	case status.Succeeded+status.Failed == status.Total:
		complete.Status, complete.Reason, event = metav1.ConditionTrue, "Failed", corev1.EventTypeWarning
		complete.Message = fmt.Sprintf("%d of %d Jobs failed", status.Failed, status.Total)
	case len(seen.Failures) > 0:
		complete.Reason, complete.Message = "Refused", seen.Failures[0].Message
	case sweep.Spec.Suspend:
		complete.Reason = "Suspended"
	}
	status.Phase = complete.Reason
	status.Conditions = append(status.Conditions, sweep.Status.Conditions...)
	before := meta.IsStatusConditionTrue(status.Conditions, Complete)
	meta.SetStatusCondition(&status.Conditions, complete)
	if complete.Status == metav1.ConditionTrue {
		status.CompletionTime = sweep.Status.CompletionTime
		if !before {
			status.CompletionTime = &now
			decision.Events = append(decision.Events, core.Note{Type: event, Reason: "Sweep" + complete.Reason, Message: complete.Message})
		}
	}
}

func newJob(sweep *Sweep, value string) *batchv1.Job {
	args := []string{value}
	if len(sweep.Spec.Args) > 0 {
		args = nil
		for _, arg := range sweep.Spec.Args {
			args = append(args, strings.ReplaceAll(arg, "$("+valueVariable+")", value))
		}
	}
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: jobName(sweep, value), Namespace: sweep.Namespace,
			Labels:      map[string]string{"examples.weft.run/sweep": sweep.Name},
			Annotations: map[string]string{"examples.weft.run/value": value},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit: &sweep.Spec.Retries,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{
					Name: "run", Image: sweep.Spec.Image, Args: args, Env: []corev1.EnvVar{{Name: valueVariable, Value: value}},
				}},
			}},
		},
	}
}

// jobName names the Job of a value. All that it would run is in the name, so
// that one that is to run something else is another Job.
func jobName(sweep *Sweep, value string) string {
	sum := fnv.New64a()
	_, _ = fmt.Fprintf(sum, "%q %q %q %d", value, sweep.Spec.Image, sweep.Spec.Args, sweep.Spec.Retries) // a hash returns no error
	return fmt.Sprintf("%s-%016x", strings.TrimRight(fmt.Sprintf("%.46s", sweep.Name), ".-"), sum.Sum64())
}

func holds(job *batchv1.Job, condition batchv1.JobConditionType) bool {
	for i := range job.Status.Conditions {
		if c := &job.Status.Conditions[i]; c.Type == condition {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
