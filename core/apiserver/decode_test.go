package apiserver

import (
	"bytes"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/weftrun/weft/core"
)

// TestProtobufLists checks what answerProtobufList relies on, for every list.
func TestProtobufLists(t *testing.T) {
	seen := 0
	for gvk, goType := range core.Scheme().AllKnownTypes() {
		items, ok := goType.FieldByName("Items")
		if !ok || gvk.Version == runtime.APIVersionInternal {
			continue
		}
		metadata, ok := goType.FieldByName("ListMeta")
		if !ok || !strings.HasPrefix(items.Tag.Get("protobuf"), "bytes,2,rep") || !strings.HasPrefix(metadata.Tag.Get("protobuf"), "bytes,1,opt") {
			t.Errorf("%s: metadata %q, items %q", gvk, metadata.Tag.Get("protobuf"), items.Tag.Get("protobuf"))
		}
		seen++
	}
	if seen < 20 {
		t.Errorf("only %d lists were seen", seen)
	}
}

// TestEnvelope compares the envelope with that of Kubernetes' own serializer.
func TestEnvelope(t *testing.T) {
	p := largePod(1)
	var want bytes.Buffer
	if err := protobuf.NewSerializer(core.Scheme(), core.Scheme()).Encode(p, &want); err != nil {
		t.Fatal(err)
	}
	got, err := encodeWhole(p, formProtobuf)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the envelopes differ: %v\n%q\n%q", err, got, want.Bytes())
	}
	long := schema.GroupVersionKind{Group: strings.Repeat("g", 200), Version: "v1", Kind: strings.Repeat("K", 150)}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(envelope(long, []byte("abc"))[len(magic):]); err != nil || unknown.Kind != long.Kind || string(unknown.Raw) != "abc" {
		t.Errorf("long names: %v, %+v", err, unknown)
	}
}

func TestParsePath(t *testing.T) {
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/v1/pods", "list v1 pods"},
		{"GET", "/api/v1/namespaces/a/pods?watch=1", "watch v1 pods in a"},
		{"GET", "/api/v1/namespaces/a/pods/b", "get v1 pods b in a"},
		{"GET", "/api/v1/namespaces/a/pods/b/log", "get v1 pods b/log in a"},
		{"GET", "/api/v1/namespaces", "list v1 namespaces"},
		{"GET", "/api/v1/namespaces/a", "get v1 namespaces a"},
		{"PUT", "/api/v1/namespaces/a/status", "update v1 namespaces a/status"},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 deployments in a"},
		{"POST", "/apis/apps/v1/namespaces/a/deployments/", "create apps/v1 deployments in a"},
		{"GET", "/apis/apps/v1", "path"},
		{"GET", "/api/v1/namespaces//pods", "path"},
		{"GET", "/api/v1/namespaces/a/pods/b/c/d", "path"},
	} {
		q := parsePath(httptest.NewRequest(c.method, c.path, nil))
		got := "path"
		if q.isResource {
			got = strings.TrimSpace(q.verb + " " + schema.GroupVersion{Group: q.group, Version: q.apiVersion}.String() + " " + q.resource + " " + q.name)
			if q.subresource != "" {
				got += "/" + q.subresource
			}
			if q.namespace != "" {
				got += " in " + q.namespace
			}
		}
		if got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

func FuzzSelector(f *testing.F) {
	f.Add("a=b,c!=d,e in (f,g),!h", "metadata.name=x")
	f.Add("", "spec.nodeName=,status.phase!=Running")
	f.Add(`a in (`, `metadata.name=\`)
	kind := newFake().kinds[2]
	p := largePod(1)
	f.Fuzz(func(t *testing.T, labels, fields string) {
		s, err := parseSelector(url.Values{"labelSelector": {labels}, "fieldSelector": {fields}}, kind, "v1")
		if err != nil {
			if statusOf(err).Status().Code != 400 {
				t.Errorf("%v is no bad request", err)
			}
			return
		}
		if s.matches(p) && s.name != "" && s.name != p.Name {
			t.Errorf("%q %q matched %s", labels, fields, p.Name)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}`), false)
	f.Add([]byte("a: &a [*a]\n"), true)
	f.Add([]byte("a: &a [1]\nb: *a\n"), true)
	f.Add([]byte("? - - - [{"), true)
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	f.Fuzz(func(t *testing.T, data []byte, isYAML bool) {
		var err error
		if isYAML {
			if data, _, err = fromYAML(data); err != nil {
				return
			}
		}
		object, _, err := decodeJSON(data, gvk, false)
		if err == nil && object.GetObjectKind().GroupVersionKind() != gvk {
			t.Errorf("decoded a %s", object.GetObjectKind().GroupVersionKind())
		}
		if _, _, err := decodeJSON(data, schema.GroupVersionKind{Group: "g", Version: "v", Kind: "K"}, true); err == nil && len(data) == 0 {
			t.Error("nothing was taken for an object")
		}
	})
}

func FuzzProtobuf(f *testing.F) {
	data, err := encodeWhole(pod("a"), formProtobuf)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	f.Fuzz(func(t *testing.T, data []byte) {
		if object, err := decodeProtobuf(data, gvk); err == nil && object == nil {
			t.Error("neither object nor error")
		}
	})
}
