package reconcile_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest/mapstore"
	"github.com/weftrun/weft/core/reconcile"
	"github.com/weftrun/weft/core/registry"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/replicaset"
)

type builtin []core.Controller

func (b builtin) Controllers() ([]core.Controller, <-chan struct{}) { return b, nil }

func newPlanner(t *testing.T) (*reconcile.Reconciler, *registry.Registry) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	client, err := registry.New(registry.Config{Store: mapstore.New(), Strategies: registry.Builtin(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Create(t.Context(), &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "default"},
	}, core.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := reconcile.New(reconcile.Config{
		Client: client, Logger: log,
		Source: builtin{replicaset.New(), deployment.New(), job.New()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, client
}

func template(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x.wasm"}}},
	}
}

func newDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("web"),
		},
	}
}

// summary counts the changes by verb and resource.
func summary(changes []reconcile.PlannedChange) string {
	count := map[string]int{}
	var order []string
	for _, c := range changes {
		name := c.Verb + " " + c.Key.Resource
		if count[name] == 0 {
			order = append(order, name)
		}
		count[name]++
	}
	for i, name := range order {
		order[i] = fmt.Sprintf("%d %s", count[name], name)
	}
	return strings.Join(order, ", ")
}

func TestPlanShowsPodsOfADeployment(t *testing.T) {
	r, client := newPlanner(t)
	before := client.Snapshot().Revision()
	changes, err := r.Plan(t.Context(), []core.Object{newDeployment(3)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := summary(changes), "3 create pods, 1 create deployments, 1 create replicasets"; got != want {
		t.Errorf("planned %s, want %s", got, want)
	}
	if after := client.Snapshot().Revision(); after != before {
		t.Errorf("planning took the revision from %d to %d", before, after)
	}
	again, err := r.Plan(t.Context(), []core.Object{newDeployment(3)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i := range again {
		if again[i].Key != changes[i].Key {
			t.Errorf("planned %s, then %s", changes[i].Key, again[i].Key)
		}
	}
}

func TestPlanShowsAChangeAndInANewNamespace(t *testing.T) {
	r, client := newPlanner(t)
	if _, err := client.Create(t.Context(), newDeployment(1), core.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	before := client.Snapshot().Revision()
	elsewhere := newDeployment(2)
	elsewhere.Namespace = "shop"
	namespace := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	changes, err := r.Plan(t.Context(), []core.Object{namespace, elsewhere, newDeployment(2)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := summary(changes), "1 create namespaces, 4 create pods, 1 update deployments, 1 create deployments, 2 create replicasets"; got != want {
		t.Errorf("planned %s, want %s", got, want)
	}
	if after := client.Snapshot().Revision(); after != before {
		t.Errorf("planning took the revision from %d to %d", before, after)
	}
}

func TestPlanRefusesWhatTheClusterWould(t *testing.T) {
	r, _ := newPlanner(t)
	bad := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pi"},
		Spec: batchv1.JobSpec{Template: template("pi")},
	}
	_, err := r.Plan(t.Context(), []core.Object{bad}, time.Now())
	if err == nil || !strings.Contains(err.Error(), "restartPolicy") {
		t.Errorf("err is %v", err)
	}
	if errors.Is(err, reconcile.ErrUnfinished) {
		t.Error("a refusal is no hit bound")
	}
}
