package lifecycle

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// always are the objects that every cluster has. The namespaces come first:
// who waits for a cluster waits for them. They are new at each call.
func always() []core.Object {
	var objects []core.Object
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		objects = append(objects, &corev1.Namespace{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		})
	}
	for _, name := range []string{core.RuntimeClassDense, core.RuntimeClassIsolated} {
		objects = append(objects, &nodev1.RuntimeClass{
			TypeMeta:   metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClass"},
			ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: name,
		})
	}
	return objects
}

// ensure creates what every cluster has and this one lacks. A kind that the
// client does not serve is passed over.
func (l *Lifecycle) ensure(ctx context.Context) error {
	for _, object := range always() {
		kind, ok := l.client.KindNamed(object.GetObjectKind().GroupVersionKind().GroupKind())
		if !ok {
			continue
		}
		key := core.KeyFor(kind.GroupResource(), object)
		for failures := 1; ctx.Err() == nil; failures++ {
			err := l.ensureOne(ctx, key, object)
			if err == nil {
				break
			}
			l.log.Warn("an object of every cluster is not created", "kind", kind.Kind, "object", key.Name, "err", err)
			wait(ctx, min(minBackoff<<min(failures, 20), maxBackoff))
		}
	}
	return nil
}

func (l *Lifecycle) ensureOne(ctx context.Context, key core.Key, object core.Object) error {
	if _, there := l.client.Snapshot().Get(key); there {
		return nil
	}
	if _, err := l.client.Create(ctx, core.Copy(object), core.WriteOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}
