package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// informer follows ConfigMaps with client-go's informer, which asks for its
// first list as a watch.
func (c *shared) informer(t *testing.T) {
	t.Parallel()
	c.weft(t, "create", "namespace", "informer")
	client, err := kubernetes.NewForConfig(c.config(t, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	maps := client.CoreV1().ConfigMaps("informer")
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "first"}, Data: map[string]string{"n": "1"}}
	if _, err := maps.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("informer"))
	seen := make(chan string, 100) // more than happens here
	follower := factory.Core().V1().ConfigMaps().Informer()
	if _, err := follower.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { seen <- "add " + o.(*corev1.ConfigMap).Name },
		UpdateFunc: func(_, o any) { seen <- "update " + o.(*corev1.ConfigMap).Data["n"] },
		DeleteFunc: func(o any) { seen <- "delete " + o.(*corev1.ConfigMap).Name },
	}); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	if !cache.WaitForCacheSync(t.Context().Done(), follower.HasSynced) {
		t.Fatal("the informer does not sync")
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("the informer sees %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("the informer does not see %q", want)
		}
	}
	expect("add first")
	object.Data["n"] = "2"
	if _, err := maps.Update(t.Context(), object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("update 2")
	if err := maps.Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("delete first")
}
