package apiserver

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/clientset/versioned"
)

// used knows the metrics of what has the label used.
type used struct{}

func (used) PodMetrics(p *corev1.Pod) *metricsv1beta1.PodMetrics {
	if p.Labels["used"] == "" {
		return nil
	}
	usage := corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewScaledQuantity(150000001, resource.Nano), corev1.ResourceMemory: *resource.NewQuantity(2<<20, resource.BinarySI),
	}
	return &metricsv1beta1.PodMetrics{
		TypeMeta:   metav1.TypeMeta{APIVersion: "metrics.k8s.io/v1beta1", Kind: "PodMetrics"},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels},
		Window:     metav1.Duration{Duration: 10 * time.Second},
		Containers: []metricsv1beta1.ContainerMetrics{{Name: "a", Usage: usage}, {Name: "b", Usage: usage}},
	}
}

func (used) NodeMetrics(n *corev1.Node) *metricsv1beta1.NodeMetrics {
	return &metricsv1beta1.NodeMetrics{
		TypeMeta: metav1.TypeMeta{APIVersion: "metrics.k8s.io/v1beta1", Kind: "NodeMetrics"}, ObjectMeta: metav1.ObjectMeta{Name: n.Name},
		Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("1Gi")},
	}
}

func putUsed(f *fake) {
	f.mu.Lock()
	f.kinds = append(f.kinds, builtin("", "v1", "Node", "nodes", false))
	f.mu.Unlock()
	for _, name := range []string{"b", "a", "new"} {
		p := pod(name)
		if name != "new" {
			p.Labels = map[string]string{"used": name}
		}
		f.put(p)
	}
	f.put(&corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
}

// TestMetricsClient asks as kubectl top and autoscalers do, in JSON and in
// protobuf.
func TestMetricsClient(t *testing.T) {
	for _, form := range []string{typeJSON, typeProtobuf} {
		t.Run(form, func(t *testing.T) {
			server, f, _ := serve(t, func(c *Config) { c.Metrics = used{} })
			putUsed(f)
			config := restConfig(server)
			config.ContentType, config.AcceptContentTypes = form, form
			client := versioned.NewForConfigOrDie(config).MetricsV1beta1()
			list, err := client.PodMetricses("").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != 2 || list.Items[0].Name != "a" || list.Items[1].Containers[1].Usage.Cpu().String() != "150000001n" || list.Items[0].Window.Duration != 10*time.Second {
				t.Errorf("got %+v", list)
			}
			for query, want := range map[metav1.ListOptions]int{
				{LabelSelector: "used=b"}: 1, {FieldSelector: "metadata.name=a"}: 1, {FieldSelector: "spec.nodeName=n1"}: 0, {LabelSelector: "used"}: 2,
			} {
				if list, err = client.PodMetricses("default").List(t.Context(), query); err != nil || len(list.Items) != want {
					t.Errorf("%+v: %d, %v", query, len(list.Items), err)
				}
			}
			one, err := client.PodMetricses("default").Get(t.Context(), "b", metav1.GetOptions{})
			if err != nil || one.Name != "b" || len(one.Containers) != 2 {
				t.Errorf("got %+v, %v", one, err)
			}
			_, err = client.PodMetricses("default").Get(t.Context(), "new", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) || err.Error() != `pods.metrics.k8s.io "default/new" not found` {
				t.Errorf("of one without a sample: %v", err)
			}
			_, err = client.PodMetricses("default").Get(t.Context(), "none", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) || err.Error() != `pods "none" not found` {
				t.Errorf("of none: %v", err)
			}
			nodes, err := client.NodeMetricses().List(t.Context(), metav1.ListOptions{})
			if err != nil || len(nodes.Items) != 1 || nodes.Items[0].Usage.Cpu().MilliValue() != 1500 {
				t.Errorf("nodes: %+v, %v", nodes, err)
			}
		})
	}
}

func TestMetricsAnswers(t *testing.T) {
	server, f, _ := serve(t, func(c *Config) { c.Metrics = used{} })
	putUsed(f)
	const base = "/apis/metrics.k8s.io/v1beta1"
	table := map[string]string{"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
	for _, c := range []call{
		{name: "table", path: base + "/namespaces/default/pods", header: table, code: 200, want: `"cells":["a","300000002n","4Mi","10s"]`},
		{name: "columns", path: base + "/pods", header: table, code: 200, want: `"name":"Window","type":"string","format":"duration"`},
		{name: "one row", path: base + "/nodes/n1", header: table, code: 200, want: `"cells":["n1","1500m","1Gi","0s"]`},
		{name: "list", path: base + "/pods", code: 200, want: `{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[{`},
		{name: "a field that is none", path: base + "/pods?fieldSelector=spec.x%3D1", code: 400, want: "field label not supported: spec.x"},
		{name: "watch", path: base + "/pods?watch=1", code: 405, want: "MethodNotAllowed"},
		{name: "write", method: "POST", path: base + "/namespaces/default/pods", code: 405, want: "MethodNotAllowed"},
		{name: "delete", method: "DELETE", path: base + "/nodes/n1", code: 405, want: "MethodNotAllowed"},
		{name: "no namespace", path: base + "/pods/a", code: 404, want: "could not find the requested resource"},
		{name: "node in a namespace", path: base + "/namespaces/default/nodes", code: 404, want: "could not find the requested resource"},
		{name: "another version", path: "/apis/metrics.k8s.io/v1/pods", code: 404, want: "could not find the requested resource"},
		{name: "another resource", path: base + "/deployments", code: 404, want: "could not find the requested resource"},
		{name: "group", path: "/apis/metrics.k8s.io", code: 200, want: `"preferredVersion":{"groupVersion":"metrics.k8s.io/v1beta1"`},
		{name: "resources", path: base, code: 200, want: `{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}`},
		{name: "aggregated", path: "/apis", code: 200, want: `"responseKind":{"group":"metrics.k8s.io","version":"v1beta1","kind":"NodeMetrics"}`,
			header: map[string]string{"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(t, server) })
	}
}

// Without metrics there is no such group, as on a cluster without
// metrics-server: that is what clients look at.
func TestWithoutMetrics(t *testing.T) {
	server, _, _ := serve(t, nil)
	call{path: "/apis/metrics.k8s.io/v1beta1/pods", code: 404}.do(t, server)
	groups, err := kubernetes.NewForConfigOrDie(restConfig(server)).Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if g.Name == "metrics.k8s.io" {
			t.Error("it is discovered")
		}
	}
}
