package apiserver

import (
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/weftrun/weft/core"
)

// Metrics tells what pods and nodes use: nil when that is not known.
// core/metrics implements it.
type Metrics interface {
	PodMetrics(pod *corev1.Pod) *metricsv1beta1.PodMetrics
	NodeMetrics(node *corev1.Node) *metricsv1beta1.NodeMetrics
}

// metricsKinds are those of metrics.k8s.io. Nothing of them is kept: each
// answer is made from the object of the same resource in the core group.
var metricsKinds = []*core.Kind{metricsKind("nodes", "NodeMetrics", false), metricsKind("pods", "PodMetrics", true)}

func metricsKind(resource, kind string, namespaced bool) *core.Kind {
	version := core.Version{Name: metricsv1beta1.SchemeGroupVersion.Version, Columns: metricsColumns, Cells: metricsCells}
	return &core.Kind{
		Group: metricsv1beta1.GroupName, Kind: kind, ListKind: kind + "List", Resource: resource, Namespaced: namespaced,
		Versions: []core.Version{version}, Storage: version.Name, Verbs: []string{"get", "list"},
	}
}

// metricsColumns are those of Kubernetes' metrics-server.
var metricsColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
	{Name: "cpu", Type: "string", Format: "quantity"},
	{Name: "memory", Type: "string", Format: "quantity"},
	{Name: "Window", Type: "string", Format: "duration"},
}

func metricsCells(o core.Object, _ time.Time) []any {
	var cpu, memory resource.Quantity
	var window metav1.Duration
	switch m := o.(type) {
	case *metricsv1beta1.PodMetrics:
		window = m.Window
		for i := range m.Containers {
			cpu.Add(*m.Containers[i].Usage.Cpu())
			memory.Add(*m.Containers[i].Usage.Memory())
		}
	case *metricsv1beta1.NodeMetrics:
		window, cpu, memory = m.Window, *m.Usage.Cpu(), *m.Usage.Memory()
	}
	return []any{o.GetName(), cpu.String(), memory.String(), window.Duration.String()}
}

// serveMetrics answers for metrics.k8s.io; done tells whether q is about that.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, q *request) (done bool, err error) {
	if q.group != metricsv1beta1.GroupName || s.Metrics == nil {
		return false, nil
	}
	at := slices.IndexFunc(metricsKinds, func(k *core.Kind) bool { return k.Resource == q.resource })
	if at < 0 || q.apiVersion != metricsv1beta1.SchemeGroupVersion.Version || q.subresource != "" {
		return true, errNoResource()
	}
	q.kind, q.version, q.unkept = metricsKinds[at], &metricsKinds[at].Versions[0], true
	switch {
	case !q.kind.Namespaced && q.namespace != "", q.kind.Namespaced && q.namespace == "" && q.name != "":
		return true, errNoResource()
	case !slices.Contains(q.kind.Verbs, q.verb):
		return true, apierrors.NewMethodNotSupported(q.groupResource(), q.verb)
	}
	source, err := s.sourceOf(q)
	if err != nil {
		return true, err
	}
	if q.verb == "get" {
		return true, s.getMetrics(w, r, q, source)
	}
	return true, s.listMetrics(w, r, q, source)
}

// sourceOf asks for the objects that metrics are about.
func (s *Server) sourceOf(q *request) (*request, error) {
	source := *q
	source.group = ""
	kind, ok := s.Client.KindOf(source.groupResource())
	if !ok || len(kind.Versions) == 0 {
		return nil, errNoResource()
	}
	source.kind, source.version = kind, &kind.Versions[0]
	return &source, nil
}

// metricsOf returns the metrics of an object, nil if they are not known.
func (s *Server) metricsOf(o core.Object) core.Object {
	switch o := o.(type) {
	case *corev1.Pod:
		if m := s.Metrics.PodMetrics(o); m != nil {
			return m
		}
	case *corev1.Node:
		if m := s.Metrics.NodeMetrics(o); m != nil {
			return m
		}
	}
	return nil
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request, q, source *request) error {
	object, err := s.read(r.Context(), source)
	if err != nil {
		return err
	}
	m := s.metricsOf(object)
	if m == nil {
		name := q.name
		if q.namespace != "" {
			name = q.namespace + "/" + name
		}
		return apierrors.NewNotFound(q.groupResource(), name)
	}
	return s.answerObject(w, r, q, http.StatusOK, m, false)
}

// listMetrics answers with the metrics of what the selectors choose. As from
// metrics-server, what has none yet is left out, and the list has no revision.
func (s *Server) listMetrics(w http.ResponseWriter, r *http.Request, q, source *request) error {
	a, err := negotiate(r, false, asTable, asPartSet)
	if err != nil {
		return err
	}
	l, err := s.find(r.Context(), source)
	if err != nil {
		return err
	}
	known := make([]core.Object, 0, len(l.items))
	for _, object := range l.items {
		if m := s.metricsOf(object); m != nil {
			known = append(known, m)
		}
	}
	l.items, l.meta.ResourceVersion = known, ""
	return s.answerList(w, r, q, l, a)
}
