package apiserver

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func widgetSchema() *apiextensionsv1.JSONSchemaProps {
	return &apiextensionsv1.JSONSchemaProps{
		Type: "object", Description: "A Widget is a test.",
		Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"spec": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer", Description: "How large."}}},
		},
	}
}

// TestTypedClient takes client-go through an object's life, in JSON and in
// protobuf.
func TestTypedClient(t *testing.T) {
	for _, form := range []string{typeJSON, typeProtobuf} {
		t.Run(form, func(t *testing.T) {
			server, _, _ := serve(t, nil)
			config := restConfig(server)
			config.ContentType, config.AcceptContentTypes = form, form
			client := kubernetes.NewForConfigOrDie(config)
			lifeOfPods(t, client)
			discovered(t, client)
		})
	}
}

func lifeOfPods(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	pods := client.CoreV1().Pods("default")
	for _, name := range []string{"b", "a"} {
		created, err := pods.Create(t.Context(), pod(name), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if created.UID == "" || created.Spec.Containers[0].Name != "a" {
			t.Errorf("created %+v", created)
		}
	}
	if _, err := pods.Create(t.Context(), pod("a"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second creation: %v", err)
	}
	got, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || got.Name != "a" || got.ResourceVersion == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || list.Items[0].Name != "a" || list.Items[1].Spec.Containers[0].Image != "x" || list.ResourceVersion != "102" {
		t.Errorf("listed %+v", list)
	}
	got.Labels = map[string]string{"x": "y"}
	if updated, err := pods.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil || updated.Labels["x"] != "y" {
		t.Errorf("updated %+v, %v", updated, err)
	}
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := pods.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) || err.Error() != `pods "a" not found` {
		t.Errorf("get of a deleted pod: %v", err)
	}
	if err := pods.Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Target: corev1.ObjectReference{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	bound, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
	if err != nil || len(bound.Items) != 1 {
		t.Errorf("bound to n1: %v, %v", bound, err)
	}
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

func discovered(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	groups, resources, err := client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, list := range resources {
		for _, r := range list.APIResources {
			found[list.GroupVersion+" "+r.Name] = true
		}
	}
	for _, want := range []string{"v1 pods", "v1 pods/log", "apps/v1 deployments", "apps/v1 deployments/scale", "example.com/v1 widgets", "authorization.k8s.io/v1 selfsubjectaccessreviews"} {
		if !found[want] {
			t.Errorf("discovery lacks %s; groups %v", want, groups)
		}
	}
	if v, err := client.Discovery().ServerVersion(); err != nil || v.Minor != "36" {
		t.Errorf("version %v, %v", v, err)
	}
}
