package core

import (
	"bytes"
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// MemoryKind is the kind of the objects of Memories; their Go type is
// *corev1.Secret.
var MemoryKind = schema.GroupVersionKind{Group: Memories.Group, Version: "v1", Kind: "Memory"}

// Scheme returns the Go types of all kinds known at build time. It is shared
// and must not be changed.
var Scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, autoscalingv1.AddToScheme,
		policyv1.AddToScheme, coordinationv1.AddToScheme, discoveryv1.AddToScheme, nodev1.AddToScheme, admissionregistrationv1.AddToScheme,
		authenticationv1.AddToScheme, authorizationv1.AddToScheme, apiextensionsv1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	// A Memory has a Secret's shape, and a name of its own by which the log
	// finds its type again.
	s.AddKnownTypeWithName(MemoryKind, &corev1.Secret{})
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	utilruntime.Must(metav1.AddMetaToScheme(s))
	return s
})

var storage = sync.OnceValue(func() *protobuf.Serializer {
	return protobuf.NewSerializer(Scheme(), Scheme())
})

// Marshal encodes an object for the log, the bus and the plugin wire:
// Kubernetes' protobuf envelope for types that have one, JSON for the rest.
// Both carry apiVersion and kind.
func Marshal(object Object) ([]byte, error) {
	var b bytes.Buffer
	var err error
	if u, ok := object.(*unstructured.Unstructured); ok {
		err = unstructured.UnstructuredJSONScheme.Encode(u, &b)
	} else {
		err = storage().Encode(object, &b)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %T %s/%s: %w", object, object.GetNamespace(), object.GetName(), err)
	}
	return b.Bytes(), nil
}

// Unmarshal is Marshal's inverse. JSON of a kind that Scheme knows becomes
// its Go type, too, so that a plugin in any language may answer in JSON.
func Unmarshal(data []byte) (Object, error) {
	if !bytes.HasPrefix(data, []byte("k8s\x00")) {
		return unmarshalJSON(data)
	}
	decoded, _, err := storage().Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	object, ok := decoded.(Object)
	if !ok {
		return nil, fmt.Errorf("decode object: %T is no API object", decoded)
	}
	return object, nil
}

func unmarshalJSON(data []byte) (Object, error) {
	decoded, _, err := unstructured.UnstructuredJSONScheme.Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	u, ok := decoded.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("decode object: %T is a list, one object is wanted", decoded)
	}
	return Typed(u)
}

// Typed converts u to the Go type of its kind, or returns u itself if Scheme
// does not know the kind.
func Typed(u *unstructured.Unstructured) (Object, error) {
	gvk := u.GroupVersionKind()
	if !Scheme().Recognizes(gvk) {
		return u, nil
	}
	typed, err := Scheme().New(gvk)
	if err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", gvk.Kind, u.GetName(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", gvk.Kind, u.GetName(), err)
	}
	object, ok := typed.(Object)
	if !ok {
		return nil, fmt.Errorf("decode %s %q: %T is no API object", gvk.Kind, u.GetName(), typed)
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object, nil
}
