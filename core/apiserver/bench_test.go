package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// largePod is about as large as a running pod of a Deployment is.
func largePod(i int) *corev1.Pod {
	p := pod(fmt.Sprintf("web-6695bc64bc-%05d", i))
	now, yes := metav1.Now(), true
	p.CreationTimestamp = now
	p.GenerateName = "web-6695bc64bc-"
	p.Labels = map[string]string{"app": "web", "pod-template-hash": "6695bc64bc"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-6695bc64bc", UID: "aa7c", Controller: &yes, BlockOwnerDeletion: &yes}}
	p.Spec.NodeName, p.Spec.RestartPolicy, p.Spec.DNSPolicy = "node-1", corev1.RestartPolicyAlways, corev1.DNSClusterFirst
	p.Spec.SchedulerName, p.Spec.ServiceAccountName = "default-scheduler", "default"
	p.Spec.Containers[0] = corev1.Container{
		Name: "c", Image: "registry.example.com/web:v1", ImagePullPolicy: corev1.PullIfNotPresent,
		Env:                    []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}},
		Resources:              corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("16Mi")}},
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
	}
	p.Status.Phase, p.Status.PodIP, p.Status.HostIP, p.Status.StartTime = corev1.PodRunning, "10.0.0.1", "192.168.0.1", &now
	for _, c := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "c", Ready: true, Started: &yes, Image: "registry.example.com/web:v1", ImageID: "sha256:0123456789abcdef",
		ContainerID: "weft://0123456789abcdef", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
	}}
	return p
}

func manyPods(b *testing.B, f *fake, n int) {
	b.Helper()
	for i := range n {
		f.put(largePod(i))
	}
	f.log = nil
	f.Snapshot()
}

// BenchmarkList lists 10,000 pods over TLS: cold is the first list after all
// of them changed, warm one within the life of the kept encodings.
func BenchmarkList(b *testing.B) {
	server, f, s := serve(b, nil)
	manyPods(b, f, 10000)
	for _, c := range []struct{ name, accept string }{
		{"json", typeJSON},
		{"protobuf", typeProtobuf},
		{"table", typeJSON + ";as=Table;v=v1;g=meta.k8s.io"},
	} {
		for _, cold := range []bool{true, false} {
			name := c.name + "/warm"
			if cold {
				name = c.name + "/cold"
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					if cold {
						s.encoded.age()
						s.encoded.age()
					}
					b.SetBytes(fetch(b, server.Client(), server.URL+"/api/v1/pods", c.accept))
				}
			})
		}
	}
}

func fetch(b *testing.B, client *http.Client, url, accept string) int64 {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.Status, err)
	}
	_ = response.Body.Close() // only read
	return n
}

// BenchmarkCreate creates config maps over one TLS connection.
func BenchmarkCreate(b *testing.B) {
	server, _, _ := serve(b, nil)
	client := server.Client()
	i := 0
	for b.Loop() {
		i++
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c-%d"},"data":{"a":"b"}}`, i)
		response, err := client.Post(server.URL+"/api/v1/namespaces/default/configmaps?fieldValidation=Strict", typeJSON, bytes.NewReader([]byte(body)))
		if err != nil || response.StatusCode != http.StatusCreated {
			b.Fatal(err, response)
		}
		_, _ = io.Copy(io.Discard, response.Body) // only its end matters
		_ = response.Body.Close()                 // only read
	}
}

// BenchmarkFanOut sends one change to 1,000 watches through the handler.
func BenchmarkFanOut(b *testing.B) {
	_, f, s := serve(b, nil)
	ctx, cancel := context.WithCancel(b.Context())
	const watches = 1000
	var seen sync.WaitGroup
	var running sync.WaitGroup
	for range watches {
		w := &counter{header: http.Header{}, seen: &seen}
		seen.Add(1) // its begin
		running.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/pods?watch=true&resourceVersion=100", nil)
			s.Handler().ServeHTTP(w, r)
		})
	}
	seen.Wait()
	i := 0
	for b.Loop() {
		seen.Add(watches)
		i++
		f.put(largePod(i))
		f.mu.Lock()
		f.log = f.log[max(0, len(f.log)-2):]
		f.mu.Unlock()
		seen.Wait()
	}
	cancel()
	running.Wait()
}

// counter counts flushes: the first is the headers', then one an event.
type counter struct {
	header http.Header
	seen   *sync.WaitGroup
}

func (c *counter) Header() http.Header         { return c.header }
func (c *counter) WriteHeader(int)             {}
func (c *counter) Write(p []byte) (int, error) { return len(p), nil }
func (c *counter) Flush()                      { c.seen.Done() }
