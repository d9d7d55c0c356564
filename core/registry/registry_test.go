package registry

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/registry/registrytest"
)

func open(t testing.TB) (*Registry, *registrytest.Store) {
	t.Helper()
	store := registrytest.NewStore()
	r, err := New(Config{Store: store, Strategies: builtinAndDefinitions()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), registrytest.Namespace("default"), core.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return r, store
}

func builtinAndDefinitions() []*Strategy {
	all := Builtin()
	for _, s := range all {
		if s.Kind.GroupResource() == core.Definitions {
			return all
		}
	}
	type D = apiextensionsv1.CustomResourceDefinition
	return append(all, typed[*D]{
		kind: core.Kind{Group: core.Definitions.Group, Resource: core.Definitions.Resource, Kind: "CustomResourceDefinition",
			ListKind: "CustomResourceDefinitionList", Storage: "v1", Subresources: []string{"status"}},
		create:        func() *D { return &D{} },
		prepareUpdate: func(d, old *D) { d.Status = old.Status },
		copyStatus:    func(dst, src *D) { dst.Status = src.Status },
		specChanged:   func(d, old *D) bool { return !equality.Semantic.DeepEqual(d.Spec, old.Spec) },
	}.strategy())
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Data:       data,
	}
}

func configKey(name string) core.Key {
	return core.Key{Resource: "configmaps", Namespace: "default", Name: name}
}

func TestThread(t *testing.T) {
	r, _ := open(t)
	ctx := t.Context()
	made, err := r.Create(ctx, configMap("a", map[string]string{"k": "1"}), core.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.GetUID() == "" || made.GetCreationTimestamp() == (metav1.Time{}) || made.GetResourceVersion() == "" {
		t.Errorf("created without uid, time or revision: %+v", made)
	}
	if _, err := r.Create(ctx, configMap("a", nil), core.WriteOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("created again: %v", err)
	}
	changed, err := r.Mutate(ctx, configKey("a"), func(o core.Object) error {
		o.(*corev1.ConfigMap).Data["k"] = "2"
		return nil
	}, core.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.(*corev1.ConfigMap).Data["k"] != "1" {
		t.Error("the shared object has changed")
	}
	stale := core.Copy(made)
	if _, err := r.Update(ctx, configKey("a"), stale, core.WriteOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("updated from a stale revision: %v", err)
	}
	again := core.Copy(changed)
	same, err := r.Update(ctx, configKey("a"), again, core.WriteOptions{})
	if err != nil || same.GetResourceVersion() != changed.GetResourceVersion() {
		t.Errorf("an update that says nothing was written: %v %v", same, err)
	}
	if _, live, err := r.Delete(ctx, configKey("a"), core.DeleteOptions{}); live || err != nil {
		t.Errorf("delete: %v %v", live, err)
	}
	if _, _, err := r.Delete(ctx, configKey("a"), core.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted again: %v", err)
	}
}
