package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// strategyOf returns the built-in strategy of a kind.
func strategyOf(t testing.TB, kind string) *Strategy {
	t.Helper()
	for _, s := range Builtin() {
		if s.Kind.Kind == kind && !s.Kind.Internal {
			return s
		}
	}
	t.Fatalf("no strategy of kind %s", kind)
	return nil
}

// object decodes an object of s's kind, in the namespace default if it has
// one.
func object[T core.Object](t testing.TB, s *Strategy, body string) T {
	t.Helper()
	o := s.New()
	if err := json.Unmarshal([]byte(body), o); err != nil {
		t.Fatal(err)
	}
	if s.Kind.Namespaced {
		o.SetNamespace("default")
	}
	if o.GetName() == "" {
		o.SetName("a")
	}
	o.SetUID("u-1")
	return o.(T)
}

// create takes an object through what the write path does to a new one.
func create[T core.Object](t testing.TB, s *Strategy, body string) (T, field.ErrorList) {
	t.Helper()
	o := object[T](t, s, body)
	if s.Default != nil {
		s.Default(o)
	}
	if s.PrepareCreate != nil {
		s.PrepareCreate(o)
	}
	return o, s.Validate(o)
}

// texts are the errors as users read them.
func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func TestPodDefaults(t *testing.T) {
	p, errs := create[*corev1.Pod](t, strategyOf(t, "Pod"), `{"spec": {"containers": [{
		"name": "a", "image": "file:a.wasm",
		"env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
		"ports": [{"containerPort": 80}],
		"livenessProbe": {"httpGet": {"port": 80}},
		"resources": {"limits": {"cpu": "1", "memory": "64Mi"}}
	}], "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}]}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c := p.Spec.Containers[0]
	got := map[string]any{
		"restartPolicy": string(p.Spec.RestartPolicy), "dnsPolicy": string(p.Spec.DNSPolicy), "schedulerName": p.Spec.SchedulerName,
		"grace": *p.Spec.TerminationGracePeriodSeconds, "links": *p.Spec.EnableServiceLinks, "security": p.Spec.SecurityContext != nil,
		"pull": string(c.ImagePullPolicy), "path": c.TerminationMessagePath, "policy": string(c.TerminationMessagePolicy),
		"protocol": string(c.Ports[0].Protocol), "apiVersion": c.Env[0].ValueFrom.FieldRef.APIVersion,
		"request": c.Resources.Requests.Memory().String(), "probePath": c.LivenessProbe.HTTPGet.Path,
		"probe":    []int32{c.LivenessProbe.TimeoutSeconds, c.LivenessProbe.PeriodSeconds, c.LivenessProbe.SuccessThreshold, c.LivenessProbe.FailureThreshold},
		"emptyDir": p.Spec.Volumes[0].EmptyDir != nil, "mode": *p.Spec.Volumes[1].ConfigMap.DefaultMode,
		"phase": string(p.Status.Phase), "qos": string(p.Status.QOSClass), "tolerations": len(p.Spec.Tolerations),
	}
	want := map[string]any{
		"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
		"grace": int64(30), "links": true, "security": true,
		"pull": "IfNotPresent", "path": "/dev/termination-log", "policy": "File",
		"protocol": "TCP", "apiVersion": "v1", "request": "64Mi", "probePath": "/",
		"probe": []int32{1, 10, 1, 3}, "emptyDir": true, "mode": int32(0o644),
		"phase": "Pending", "qos": "Guaranteed", "tolerations": 2,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"nginx":                       corev1.PullAlways,
		"nginx:latest":                corev1.PullAlways,
		"nginx:1.2":                   corev1.PullIfNotPresent,
		"localhost:5000/a/b":          corev1.PullAlways,
		"localhost:5000/a/b:v1":       corev1.PullIfNotPresent,
		"file:pi.wasm":                corev1.PullIfNotPresent,
		"file:///abs/pi":              corev1.PullIfNotPresent,
		"cluster.local/pi@sha256:abc": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("pullPolicy(%q) = %s, want %s", image, got, want)
		}
	}
}

func TestPodValidation(t *testing.T) {
	const ok = `{"name": "a", "image": "i"}`
	for name, c := range map[string]struct{ spec, want string }{
		"no containers":      {`{}`, `spec.containers: Required value`},
		"no image":           {`{"containers": [{"name": "a"}]}`, `spec.containers[0].image: Required value`},
		"padded image":       {`{"containers": [{"name": "a", "image": " i"}]}`, `spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace`},
		"same name":          {`{"containers": [` + ok + `,` + ok + `]}`, `spec.containers[1].name: Duplicate value: "a"`},
		"bad restart policy": {`{"restartPolicy": "Maybe", "containers": [` + ok + `]}`, `spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"`},
		"bad port":           {`{"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 70000}]}]}`, `spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive`},
		"no source":          {`{"containers": [{"name": "a", "image": "i", "env": [{"name": "E", "valueFrom": {}}]}]}`, "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"},
		"no volume":          {`{"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}`, `spec.containers[0].volumeMounts[0].name: Not found: "v"`},
		"request over limit": {`{"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]}`, `spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`},
		"negative":           {`{"containers": [{"name": "a", "image": "i", "resources": {"requests": {"memory": "-1"}}}]}`, `spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`},
		"toleration":         {`{"tolerations": [{"operator": "Equal"}], "containers": [` + ok + `]}`, "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""},
		"deadline":           {`{"activeDeadlineSeconds": 0, "containers": [` + ok + `]}`, `spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive`},
		"probe":              {`{"containers": [{"name": "a", "image": "i", "livenessProbe": {}}]}`, `spec.containers[0].livenessProbe: Required value: must specify a handler type`},
		"init probe":         {`{"containers": [` + ok + `], "initContainers": [{"name": "b", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]}`, `spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always`},
		"gate":               {`{"nodeName": "n", "schedulingGates": [{"name": "g"}], "containers": [` + ok + `]}`, `spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared`},
		"affinity":           {`{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}, "containers": [` + ok + `]}`, `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term`},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := create[*corev1.Pod](t, strategyOf(t, "Pod"), `{"spec": `+c.spec+`}`)
			if d := cmp.Diff([]string{c.want}, texts(errs)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPodUpdate(t *testing.T) {
	s := strategyOf(t, "Pod")
	old, errs := create[*corev1.Pod](t, s, `{"spec": {"activeDeadlineSeconds": 9, "tolerations": [{"key": "k", "operator": "Exists"}], "containers": [{"name": "a", "image": "i"}]}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old.ResourceVersion = "1"
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"image":   {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" }, ""},
		"shorter": {func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(3)) }, ""},
		"longer":  {func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(30)) }, `spec.activeDeadlineSeconds: Invalid value: 30: must be less than or equal to previous value`},
		"toleration added": {func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "l", Operator: "Exists"})
		}, ""},
		"toleration gone": {func(p *corev1.Pod) { p.Spec.Tolerations = nil }, `spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds`},
		"container added": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b", Image: "i", ImagePullPolicy: "Always", TerminationMessagePolicy: "File"})
		}, `spec.containers: Forbidden: pod updates may not add or remove containers`},
		"args":              {func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"x"} }, "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"},
		"bound by the back": {func(p *corev1.Pod) { p.Spec.NodeName = "n" }, "spec: Forbidden: pod updates may not change fields other than"},
	} {
		t.Run(name, func(t *testing.T) {
			p := old.DeepCopy()
			c.change(p)
			got := strings.Join(texts(s.ValidateUpdate(p, old)), "; ")
			if (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPodBinding(t *testing.T) {
	s := strategyOf(t, "Pod")
	p, _ := create[*corev1.Pod](t, s, `{"spec": {"containers": [{"name": "a", "image": "i"}]}}`)
	bind := func(target string) error {
		return s.Subresources["binding"](t.Context(), p, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: "a"}, Target: corev1.ObjectReference{Kind: "Node", Name: target},
		})
	}
	if err := bind(""); err == nil || !strings.Contains(err.Error(), "target.name: Required value") {
		t.Errorf("bind to nothing: %v", err)
	}
	if s.Grace(p, nil) != 0 {
		t.Error("an unbound pod has a grace period")
	}
	if err := bind("n1"); err != nil {
		t.Fatal(err)
	}
	if p.Spec.NodeName != "n1" || !conditionTrue(p, corev1.PodScheduled) {
		t.Errorf("bound pod: %+v", p)
	}
	want := `Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1"`
	if err := bind("n2"); err == nil || err.Error() != want {
		t.Errorf("second binding: %v, want %s", err, want)
	}
	if got := s.Grace(p, nil); got != 30 {
		t.Errorf("grace = %d, want 30", got)
	}
	if got := s.Grace(p, new(int64(3))); got != 3 {
		t.Errorf("grace = %d, want 3", got)
	}
	p.Status.Phase = corev1.PodSucceeded
	if got := s.Grace(p, nil); got != 0 {
		t.Errorf("grace of a finished pod = %d, want 0", got)
	}
}

func TestPodCells(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct{ pod, want string }{
		"pending": {`{"spec": {"containers": [{}]}, "status": {"phase": "Pending"}}`, "0/1 Pending 0"},
		"creating": {`{"spec": {"containers": [{}]}, "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}}`,
			"0/1 ContainerCreating 0"},
		"running": {`{"spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]}}`, "1/1 Running 0"},
		"restarted": {`{"spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 2, "state": {"running": {}},
			"lastState": {"terminated": {"finishedAt": "1970-01-01T00:16:35Z"}}}]}}`, "1/1 Running 2 (5s ago)"},
		"crash loop": {`{"spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}`,
			"0/1 CrashLoopBackOff 0"},
		"completed":    {`{"spec": {"containers": [{}]}, "status": {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}]}}`, "0/1 Completed 0"},
		"exit code":    {`{"spec": {"containers": [{}]}, "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}`, "0/1 ExitCode:3 0"},
		"evicted":      {`{"spec": {"containers": [{}]}, "status": {"phase": "Failed", "reason": "Evicted"}}`, "0/1 Evicted 0"},
		"init":         {`{"spec": {"containers": [{}], "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}}`, "0/1 Init:0/1 0"},
		"init failed":  {`{"spec": {"containers": [{}], "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}`, "0/1 Init:Error 0"},
		"sidecar":      {`{"spec": {"containers": [{}], "initContainers": [{"name": "i", "restartPolicy": "Always"}]}, "status": {"phase": "Running", "initContainerStatuses": [{"name": "i", "ready": true, "started": true, "state": {"running": {}}}], "containerStatuses": [{"ready": true, "state": {"running": {}}}]}}`, "2/2 Running 0"},
		"terminating":  {`{"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"containers": [{}]}, "status": {"phase": "Running"}}`, "0/1 Terminating 0"},
		"gated":        {`{"spec": {"containers": [{}]}, "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}}`, "0/1 SchedulingGated 0"},
		"half is done": {`{"spec": {"containers": [{}, {}]}, "status": {"phase": "Running", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]}}`, "1/2 NotReady 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := strategyOf(t, "Pod")
			v := s.Kind.Versions[0]
			cells := v.Cells(object[*corev1.Pod](t, s, c.pod), now)
			if len(cells) != len(v.Columns) {
				t.Fatalf("%d cells, %d columns", len(cells), len(v.Columns))
			}
			got := strings.Join([]string{cells[1].(string), cells[2].(string), cells[3].(string)}, " ")
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPodWarnings(t *testing.T) {
	s := strategyOf(t, "Pod")
	p, _ := create[*corev1.Pod](t, s, `{"spec": {"containers": [{"name": "a", "image": "i", "tty": true, "livenessProbe": {"exec": {"command": ["a"]}}}]}}`)
	want := []string{
		"spec.containers[0].livenessProbe: Weft does not honour this field yet; it is kept and has no effect",
		"spec.containers[0].tty: Weft does not honour this field yet; it is kept and has no effect",
	}
	if d := cmp.Diff(want, s.Warnings(p, nil)); d != "" {
		t.Error(d)
	}
	if got := s.Warnings(p, p); got != nil {
		t.Errorf("warnings of an update that changes nothing: %q", got)
	}
}

// BenchmarkPod is the part of a pod's creation that is this package's alone.
func BenchmarkPod(b *testing.B) {
	s := strategyOf(b, "Pod")
	p := object[*corev1.Pod](b, s, `{"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "file:a.wasm",
		"args": ["1"], "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}}}]}}`)
	b.ReportAllocs()
	for b.Loop() {
		o := p.DeepCopy()
		s.Default(o)
		s.PrepareCreate(o)
		if errs := s.Validate(o); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}
