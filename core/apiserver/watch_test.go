package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"github.com/weftrun/weft/core"
)

// next returns the next event, or fails after a while.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event came")
	}
	return watch.Event{}
}

// expect checks an event's type, and its object's name and revision.
func expect(t *testing.T, e watch.Event, kind watch.EventType, name, revision string) {
	t.Helper()
	object, ok := e.Object.(metav1.Object)
	if !ok {
		t.Fatalf("got %s %#v", e.Type, e.Object)
	}
	if e.Type != kind || object.GetName() != name || revision != "" && object.GetResourceVersion() != revision {
		t.Errorf("got %s %s at %s, want %s %s at %s", e.Type, object.GetName(), object.GetResourceVersion(), kind, name, revision)
	}
}

func TestWatch(t *testing.T) {
	for _, form := range []string{typeJSON, typeProtobuf} {
		t.Run(form, func(t *testing.T) {
			server, f, _ := serve(t, nil)
			config := restConfig(server)
			config.AcceptContentTypes, config.ContentType = form, form
			pods := kubernetes.NewForConfigOrDie(config).CoreV1().Pods("default")
			f.put(pod("old")) // 101

			labelled := pod("a")
			labelled.Labels = map[string]string{"app": "x"}
			w, err := pods.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=x"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			f.put(labelled) // 102
			expect(t, next(t, w), watch.Added, "a", "102")
			changed := core.Copy(labelled)
			changed.Annotations = map[string]string{"b": "c"}
			f.put(changed) // 103
			expect(t, next(t, w), watch.Modified, "a", "103")
			changed = core.Copy(changed)
			changed.Labels = nil
			f.put(changed) // 104
			gone := next(t, w)
			expect(t, gone, watch.Deleted, "a", "104")
			if gone.Object.(*corev1.Pod).Labels["app"] != "x" {
				t.Error("what no longer matches must be shown as it last matched")
			}
			f.put(core.Copy(labelled)) // 105
			expect(t, next(t, w), watch.Added, "a", "105")
			if _, _, err := f.Delete(t.Context(), core.Key{Resource: "pods", Namespace: "default", Name: "a"}, core.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			expect(t, next(t, w), watch.Deleted, "a", "106")
		})
	}
}

func TestWatchFrom(t *testing.T) {
	server, f, _ := serve(t, nil)
	client := kubernetes.NewForConfigOrDie(restConfig(server)).CoreV1().Pods("default")
	f.put(pod("a")) // 101
	f.put(pod("b")) // 102
	yes, no := true, false
	for _, c := range []struct {
		name string
		o    metav1.ListOptions
		want []string
	}{
		{"unset", metav1.ListOptions{}, []string{"ADDED a", "ADDED b"}},
		{"zero", metav1.ListOptions{ResourceVersion: "0"}, []string{"ADDED a", "ADDED b"}},
		{"revision", metav1.ListOptions{ResourceVersion: "101"}, []string{"ADDED b"}},
		{"by name", metav1.ListOptions{FieldSelector: "metadata.name=b"}, []string{"ADDED b"}},
		{
			"watch-list", metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: "NotOlderThan"},
			[]string{"ADDED a", "ADDED b", "BOOKMARK 102 true"},
		},
		{
			"without initial", metav1.ListOptions{SendInitialEvents: &no, ResourceVersionMatch: "NotOlderThan", AllowWatchBookmarks: true, TimeoutSeconds: new(int64(1))},
			[]string{"BOOKMARK 102 "},
		},
		{"too old", metav1.ListOptions{ResourceVersion: "5"}, []string{"ERROR 410"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := client.Watch(t.Context(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			for _, want := range c.want {
				if got := describe(next(t, w)); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func describe(e watch.Event) string {
	switch object := e.Object.(type) {
	case *metav1.Status:
		return fmt.Sprintf("%s %d", e.Type, object.Code)
	case *corev1.Pod:
		if e.Type == watch.Bookmark {
			return fmt.Sprintf("BOOKMARK %s %s", object.ResourceVersion, object.Annotations[metav1.InitialEventsAnnotationKey])
		}
		return fmt.Sprintf("%s %s", e.Type, object.Name)
	}
	return fmt.Sprintf("%s %T", e.Type, e.Object)
}

// TestInformer runs client-go's informer, which uses watch-lists.
func TestInformer(t *testing.T) {
	server, f, _ := serve(t, nil)
	f.put(pod("a"))
	client := kubernetes.NewForConfigOrDie(restConfig(server))
	var lists atomic.Int64
	inner := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", "default", fields.Everything())
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			lists.Add(1)
			return inner.ListWithContext(ctx, o)
		},
		WatchFuncWithContext: inner.WatchWithContext,
	}
	informer := cache.NewSharedIndexInformer(source, &corev1.Pod{}, 0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	defer func() { cancel(); <-done }()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	f.put(pod("b"))
	for deadline := time.Now().Add(10 * time.Second); len(informer.GetStore().List()) != 2; {
		if time.Now().After(deadline) {
			t.Fatalf("the informer has %d pods", len(informer.GetStore().List()))
		}
		time.Sleep(5 * time.Millisecond) // real sockets: no bubble
	}
	if lists.Load() != 0 {
		t.Logf("the informer listed %d times", lists.Load())
	}
}

func TestDynamicAndMetadataClients(t *testing.T) {
	server, f, _ := serve(t, nil)
	gvr := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
	widgets := dynamic.NewForConfigOrDie(restConfig(server)).Resource(gvr).Namespace("default")
	w, err := widgets.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	_, err = widgets.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"}, "spec": map[string]any{"size": int64(3)},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, next(t, w), watch.Added, "w", "101")
	list, err := widgets.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.GetKind() != "WidgetList" {
		t.Errorf("list %v, %v", list, err)
	}
	f.put(pod("a"))
	config := metadata.ConfigFor(restConfig(server))
	found, err := metadata.NewForConfigOrDie(config).Resource(corev1.SchemeGroupVersion.WithResource("pods")).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(found.Items) != 1 || found.Items[0].Name != "a" {
		t.Errorf("metadata of pods: %v, %v", found, err)
	}
}

// TestTableWatch checks that only the first Table holds columns.
func TestTableWatch(t *testing.T) {
	server, f, _ := serve(t, nil)
	f.put(pod("a"))
	f.put(pod("b"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+podsPath+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", typeJSON+";as=Table;v=v1;g=meta.k8s.io")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	decoder := json.NewDecoder(response.Body)
	for i, name := range []string{"a", "b"} {
		var e struct {
			Type   string
			Object metav1.Table
		}
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "ADDED" || e.Object.Rows[0].Cells[0] != name || (len(e.Object.ColumnDefinitions) > 0) != (i == 0) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

// TestBookmarks waits minutes of a bubble's time.
func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Client: newFake(), Authenticate: open{}, Authorize: open{}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		start := time.Now()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet,
			"/api/v1/pods?watch=true&resourceVersion=100&allowWatchBookmarks=true&timeoutSeconds=150", nil))
		if took := time.Since(start); took != 150*time.Second {
			t.Errorf("the watch took %v", took)
		}
		bookmarks := 0
		for decoder := json.NewDecoder(w.Body); decoder.More(); {
			var e metav1.WatchEvent
			if err := decoder.Decode(&e); err != nil || e.Type != "BOOKMARK" {
				t.Fatalf("event %v, %v", e, err)
			}
			bookmarks++
		}
		if bookmarks != 3 {
			t.Errorf("%d bookmarks came", bookmarks)
		}
	})
}

// TestEncodesOnce changes an object for many watches and counts encodings.
func TestEncodesOnce(t *testing.T) {
	c := newEncodings(1 << 20)
	key := encodingKey{object: pod("a"), version: "v1"}
	var calls atomic.Int64
	done := make(chan struct{})
	const readers = 100
	for range readers {
		go func() {
			data, err := c.get(key, func() ([]byte, error) { calls.Add(1); return []byte("x"), nil })
			if err != nil || string(data) != "x" {
				t.Errorf("got %q, %v", data, err)
			}
			done <- struct{}{}
		}()
	}
	for range readers {
		<-done
	}
	if calls.Load() != 1 {
		t.Errorf("it was encoded %d times", calls.Load())
	}
	c.age()
	c.age()
	if _, err := c.get(key, func() ([]byte, error) { calls.Add(1); return nil, nil }); err != nil || calls.Load() != 2 {
		t.Errorf("it was kept too long: %d, %v", calls.Load(), err)
	}
	for i := range 10000 {
		if _, err := c.get(encodingKey{object: pod(fmt.Sprint(i))}, func() ([]byte, error) { return make([]byte, 1000), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if kept := (len(c.young) + len(c.old)) * (1000 + entryCost); kept > 1<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
}
