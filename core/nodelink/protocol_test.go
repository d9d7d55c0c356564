package nodelink

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

func somePod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Generation: 1, Labels: map[string]string{"a": "b", "c": "d"}},
	}
}

func TestDesiredMessage(t *testing.T) {
	key := core.Key{Resource: "pods", Namespace: "ns", Name: "p"}
	for name, want := range map[string]desired{
		"set":     {term: 3, sequence: 1 << 63, action: actionSet, key: key, uid: "u", version: 7, object: somePod()},
		"unset":   {term: 3, sequence: 2, action: actionUnset, key: key, uid: "u"},
		"mark":    {term: 3, sequence: 3, action: actionMark},
		"dismiss": {term: 3, action: actionDismiss, epoch: 12},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := want.message("n1")
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseDesired(m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, *got, cmp.AllowUnexported(desired{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVersion: everything that concerns a node makes another version, and
// status does not.
func TestVersion(t *testing.T) {
	seen := map[uint64]string{version(somePod()): "the pod itself"}
	grace := int64(5)
	now := metav1.Now()
	for name, change := range map[string]func(*corev1.Pod){
		"uid":         func(p *corev1.Pod) { p.UID = "v" },
		"generation":  func(p *corev1.Pod) { p.Generation++ },
		"label":       func(p *corev1.Pod) { p.Labels = map[string]string{"a": "d", "c": "b"} },
		"annotation":  func(p *corev1.Pod) { p.Annotations, p.Labels = p.Labels, nil },
		"deletion":    func(p *corev1.Pod) { p.DeletionTimestamp = &now },
		"grace":       func(p *corev1.Pod) { p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace },
		"other label": func(p *corev1.Pod) { p.Labels["e"] = "" },
	} {
		p := somePod()
		change(p)
		if other, ok := seen[version(p)]; ok {
			t.Errorf("%s makes no difference to %s", name, other)
		}
		seen[version(p)] = name
	}
	p := somePod()
	p.Status.Phase, p.ResourceVersion = corev1.PodRunning, "77"
	if seen[version(p)] != "the pod itself" {
		t.Error("status makes a difference")
	}
}

func FuzzParseDesired(f *testing.F) {
	m, err := (&desired{term: 1, sequence: 2, action: actionSet, key: core.Key{Resource: "pods", Namespace: "ns", Name: "p"}, uid: "u", object: somePod()}).message("n")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("1", "2", "set", "/pods/ns/p", "7", m.Data)
	f.Add("1", "2", "unset", "/pods/ns/p", "7", []byte(nil))
	f.Add("1", "2", "dismiss", "", "-1", []byte(nil))
	f.Add("1", "2", "set", "/pods/ns/p", "7", []byte(`{"apiVersion":"v1","kind":"Pod"}`))
	f.Fuzz(func(t *testing.T, term, sequence, action, key, number string, data []byte) {
		d, err := parseDesired(bus.Message{Data: data, Header: bus.Header{
			headerTerm: term, headerSequence: sequence, headerAction: action, headerKey: key, headerVersion: number, headerEpoch: number,
		}})
		if err != nil {
			return
		}
		if d.action == actionSet && d.object == nil {
			t.Error("a set without an object")
		}
		if (d.action == actionSet || d.action == actionUnset) && formatKey(d.key) != key {
			t.Errorf("the key %q became %q", key, formatKey(d.key))
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, frame{Term: 1, Key: core.Key{Resource: "pods", Name: "p"}, Object: []byte("x")}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := writeFrame(&b, first); err != nil {
			t.Fatal(err)
		}
		again, err := readFrame(&b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzFromNode(f *testing.F) {
	f.Add([]byte(`{"epoch":1,"batch":2,"pods":[{"namespace":"a","name":"b","uid":"c","status":{"phase":"Running"},"gone":true}],"events":[{}]}`))
	f.Add([]byte(`{"epoch":1,"term":2,"sequence":3,"digest":4,"status":{"conditions":[{"type":"Ready"}]}}`))
	f.Add([]byte(`{"node":{"metadata":{"name":"n"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := parseObservation(data); err == nil && (len(o.Pods) > batchMax || len(o.Events) > batchMax) {
			t.Error("over the limit")
		}
		name, beat, err := parseHeartbeat(bus.Message{Subject: bus.HeartbeatSubject("n.1"), Data: data})
		if err == nil {
			if name != "n.1" {
				t.Errorf("the node is %q", name)
			}
			var status corev1.NodeStatus
			mergeNodeStatus(&status, beat.Status, metav1.Now())
			if mergeNodeStatus(&status, beat.Status, metav1.Now()) && !repeats(beat.Status.Conditions) {
				t.Error("the same again is a change")
			}
		}
		if r, err := parseRegistration("n", data); err == nil && r.Node.Name != "n" {
			t.Errorf("the node is %q", r.Node.Name)
		}
	})
}

// repeats tells whether a type is there twice.
func repeats(conditions []corev1.NodeCondition) bool {
	seen := map[corev1.NodeConditionType]bool{}
	for _, c := range conditions {
		if seen[c.Type] {
			return true
		}
		seen[c.Type] = true
	}
	return false
}
