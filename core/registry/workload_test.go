package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const podTemplate = `"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": "POLICY", "containers": [{"name": "a", "image": "i"}]}}`

func template(policy string) string { return strings.ReplaceAll(podTemplate, "POLICY", policy) }

func TestJobDefaults(t *testing.T) {
	j, errs := create[*batchv1.Job](t, strategyOf(t, "Job"), `{"spec": {`+template("OnFailure")+`}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s := j.Spec
	got := map[string]any{
		"completions": *s.Completions, "parallelism": *s.Parallelism, "backoffLimit": *s.BackoffLimit, "mode": string(*s.CompletionMode),
		"suspend": *s.Suspend, "manual": *s.ManualSelector, "replacement": string(*s.PodReplacementPolicy),
		"selector": s.Selector.MatchLabels, "template": s.Template.Labels, "grace": *s.Template.Spec.TerminationGracePeriodSeconds,
		"labels": j.Labels,
	}
	want := map[string]any{
		"completions": int32(1), "parallelism": int32(1), "backoffLimit": int32(6), "mode": "NonIndexed",
		"suspend": false, "manual": false, "replacement": "TerminatingOrFailed",
		"selector": map[string]string{"batch.kubernetes.io/controller-uid": "u-1"},
		"template": map[string]string{
			"app": "a", "job-name": "a", "batch.kubernetes.io/job-name": "a",
			"controller-uid": "u-1", "batch.kubernetes.io/controller-uid": "u-1",
		},
		"grace": int64(30), "labels": map[string]string{"app": "a"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestJobValidation(t *testing.T) {
	const never = `"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}`
	for name, c := range map[string]struct{ spec, want string }{
		"no restart policy": {`{"template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}`,
			`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`},
		"unknown restart policy": {`{` + template("Maybe") + `}`,
			`spec.template.spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"; ` +
				`spec.template.spec.restartPolicy: Unsupported value: "Maybe": supported values: "OnFailure", "Never"`},
		"negative":           {`{"backoffLimit": -1, ` + never + `}`, `spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0`},
		"ttl":                {`{"ttlSecondsAfterFinished": -1, ` + never + `}`, `spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0`},
		"mode":               {`{"completionMode": "Odd", ` + never + `}`, `spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"`},
		"indexed without":    {`{"completionMode": "Indexed", "parallelism": 2, ` + never + `}`, `spec.completions: Required value: when completion mode is Indexed`},
		"per index":          {`{"backoffLimitPerIndex": 1, ` + never + `}`, `spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode`},
		"failure policy":     {`{"podFailurePolicy": {"rules": [{"action": "FailJob"}]}, ` + never + `}`, `spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required`},
		"failure and policy": {`{"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}, ` + template("OnFailure") + `}`, `spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified`},
		"exit codes":         {`{"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0, 0]}}]}, ` + never + `}`, `spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator; spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator; spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Duplicate value: 0`},
		"success policy":     {`{"successPolicy": {"rules": []}, "completionMode": "Indexed", "completions": 3, ` + never + `}`, `spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified`},
		"success indexes":    {`{"successPolicy": {"rules": [{"succeededIndexes": "0,5"}]}, "completionMode": "Indexed", "completions": 3, ` + never + `}`, `spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,5": error parsing succeededIndexes: too large index: "5"`},
		"own selector":       {`{"manualSelector": true, ` + never + `}`, `spec.selector: Required value`},
		"wrong selector":     {`{"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, ` + never + `}`, "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"},
		"taken label": {`{"template": {"metadata": {"labels": {"job-name": "x"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}`,
			`spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u-1","batch.kubernetes.io/job-name":"a","controller-uid":"u-1","job-name":"x"}: must be 'a'`},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := create[*batchv1.Job](t, strategyOf(t, "Job"), `{"spec": `+c.spec+`}`)
			if d := cmp.Diff(c.want, strings.Join(texts(errs), "; ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestJobUpdate(t *testing.T) {
	s := strategyOf(t, "Job")
	old, errs := create[*batchv1.Job](t, s, `{"spec": {"completions": 3, `+template("Never")+`}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old.ResourceVersion = "1"
	for name, c := range map[string]struct {
		change func(*batchv1.Job)
		want   string
	}{
		"parallelism": {func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(9)) }, ""},
		"suspend":     {func(j *batchv1.Job) { j.Spec.Suspend = new(true) }, ""},
		"completions": {func(j *batchv1.Job) { j.Spec.Completions = new(int32(9)) }, "spec.completions: Invalid value: 9: field is immutable"},
		"mode":        {func(j *batchv1.Job) { j.Spec.CompletionMode = new(batchv1.IndexedCompletion) }, `spec.completionMode: Invalid value: "Indexed": field is immutable`},
		"template":    {func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "j" }, "spec.template: Invalid value: "},
	} {
		t.Run(name, func(t *testing.T) {
			j := old.DeepCopy()
			c.change(j)
			got := strings.Join(texts(s.ValidateUpdate(j, old)), "; ")
			if (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDeploymentDefaults(t *testing.T) {
	d, errs := create[*appsv1.Deployment](t, strategyOf(t, "Deployment"), `{"spec": {"selector": {"matchLabels": {"app": "a"}}, `+template("Always")+`}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got := []any{
		*d.Spec.Replicas, string(d.Spec.Strategy.Type), d.Spec.Strategy.RollingUpdate.MaxSurge.String(),
		d.Spec.Strategy.RollingUpdate.MaxUnavailable.String(), *d.Spec.RevisionHistoryLimit, *d.Spec.ProgressDeadlineSeconds,
	}
	if diff := cmp.Diff([]any{int32(1), "RollingUpdate", "25%", "25%", int32(10), int32(600)}, got); diff != "" {
		t.Error(diff)
	}
	if d.Spec.Template.Spec.EnableServiceLinks != nil {
		t.Error("a template has what only pods are given")
	}
}

func TestDeploymentValidation(t *testing.T) {
	const selector = `"selector": {"matchLabels": {"app": "a"}}, `
	always := template("Always")
	for name, c := range map[string]struct{ spec, want string }{
		"no selector":    {`{` + always + `}`, `spec.selector: Required value`},
		"empty selector": {`{"selector": {}, ` + always + `}`, `spec.selector: Invalid value: {}: empty selector is invalid for deployment`},
		"mismatch":       {`{"selector": {"matchLabels": {"app": "b"}}, ` + always + `}`, "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"},
		"restart policy": {`{` + selector + template("Never") + `}`, `spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`},
		"both zero":      {`{` + selector + `"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}, ` + always + `}`, "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"},
		"over 100%":      {`{` + selector + `"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}, ` + always + `}`, `spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%`},
		"no percentage":  {`{` + selector + `"strategy": {"rollingUpdate": {"maxSurge": "x"}}, ` + always + `}`, `spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`},
		"recreate":       {`{` + selector + `"strategy": {"type": "Recreate", "rollingUpdate": {}}, ` + always + `}`, "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"},
		"deadline":       {`{` + selector + `"minReadySeconds": 600, ` + always + `}`, `spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds`},
		"negative":       {`{"replicas": -1, ` + selector + always + `}`, `spec.replicas: Invalid value: -1: must be greater than or equal to 0`},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := create[*appsv1.Deployment](t, strategyOf(t, "Deployment"), `{"spec": `+c.spec+`}`)
			if d := cmp.Diff(c.want, strings.Join(texts(errs), "; ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSelectorIsImmutable(t *testing.T) {
	for _, kind := range []string{"Deployment", "ReplicaSet"} {
		s := strategyOf(t, kind)
		o := s.New()
		body := `{"spec": {"selector": {"matchLabels": {"app": "a"}}, ` + template("Always") + `}}`
		want := "spec.selector: Invalid value: {}: field is immutable"
		var got []string
		switch o.(type) {
		case *appsv1.Deployment:
			old, _ := create[*appsv1.Deployment](t, s, body)
			changed := old.DeepCopy()
			changed.ResourceVersion, old.ResourceVersion = "1", "1"
			changed.Spec.Selector = &metav1.LabelSelector{}
			got = texts(s.ValidateUpdate(changed, old))
		case *appsv1.ReplicaSet:
			old, _ := create[*appsv1.ReplicaSet](t, s, body)
			changed := old.DeepCopy()
			changed.ResourceVersion, old.ResourceVersion = "1", "1"
			changed.Spec.Selector = &metav1.LabelSelector{}
			got = texts(s.ValidateUpdate(changed, old))
		}
		if len(got) == 0 || got[len(got)-1] != want {
			t.Errorf("%s: got %q, want %q last", kind, got, want)
		}
	}
}

func TestScale(t *testing.T) {
	s := strategyOf(t, "Deployment")
	d, _ := create[*appsv1.Deployment](t, s, `{"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, `+template("Always")+`}}`)
	d.Status.Replicas = 2
	spec, status, selector := s.Scale.Replicas(d)
	if spec != 3 || status != 2 || selector != "app=a" {
		t.Errorf("scale is %d, %d, %q", spec, status, selector)
	}
	if s.Scale.Set(d, 5); *d.Spec.Replicas != 5 {
		t.Errorf("replicas are %d after setting 5", *d.Spec.Replicas)
	}
}

func TestWorkloadCells(t *testing.T) {
	now := time.Unix(100, 0)
	for name, c := range map[string]struct {
		kind, body string
		want       []any
	}{
		"job": {"Job", `{"metadata": {"creationTimestamp": "1970-01-01T00:00:10Z"}, "spec": {"completions": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}},
			"status": {"succeeded": 1, "startTime": "1970-01-01T00:00:40Z"}}`,
			[]any{"a", "Running", "1/3", "60s", "90s", "a", "i", "a=b"}},
		"finished job": {"Job", `{"spec": {"parallelism": 2}, "status": {"startTime": "1970-01-01T00:00:40Z", "completionTime": "1970-01-01T00:00:45Z", "conditions": [{"type": "Complete", "status": "True"}]}}`,
			[]any{"a", "Complete", "0/1 of 2", "5s", "<unknown>", "", "", "<none>"}},
		"deployment": {"Deployment", `{"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}}, "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}`,
			[]any{"a", "2/3", int64(1), int64(2), "<unknown>", "a,b", "i,j", "<none>"}},
		"replicaset": {"ReplicaSet", `{"spec": {"replicas": 3}, "status": {"replicas": 2, "readyReplicas": 1}}`,
			[]any{"a", int64(3), int64(2), int64(1), "<unknown>", "", "", "<none>"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := strategyOf(t, c.kind)
			v := s.Kind.Versions[0]
			var got []any
			switch c.kind {
			case "Job":
				got = v.Cells(object[*batchv1.Job](t, s, c.body), now)
			case "Deployment":
				got = v.Cells(object[*appsv1.Deployment](t, s, c.body), now)
			default:
				got = v.Cells(object[*appsv1.ReplicaSet](t, s, c.body), now)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if len(got) != len(v.Columns) {
				t.Errorf("%d cells, %d columns", len(got), len(v.Columns))
			}
		})
	}
}
