package registry

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// typed is a Strategy said in the kind's own Go type, so that a kind's file
// holds no type assertions. Its fields mean what Strategy's mean.
type typed[T core.Object] struct {
	kind    core.Kind
	create  func() T
	columns []metav1.TableColumnDefinition
	cells   func(object T, now time.Time) []any
	fields  func(object T) map[string]string

	defaults       func(object T)
	prepareCreate  func(object T)
	prepareUpdate  func(object, old T)
	validate       func(object T) field.ErrorList
	validateUpdate func(object, old T) field.ErrorList
	// warnings gets a nil old for a creation.
	warnings       func(object, old T) []string
	copyStatus     func(dst, src T)
	validateStatus func(object, old T) field.ErrorList
	specChanged    func(object, old T) bool

	scale        *Scaling
	subresources map[string]SubresourceFunc
	grace        func(object T, requested *int64) int64
	deleting     func(object T)
	held         func(object T) bool
}

// strategy adapts t. The kind is served in its one storage version unless it
// says otherwise.
func (t typed[T]) strategy() *Strategy {
	kind := t.kind
	if len(kind.Versions) == 0 {
		kind.Versions = []core.Version{{Name: kind.Storage, Columns: t.columns}}
		if t.cells != nil {
			kind.Versions[0].Cells = func(o core.Object, now time.Time) []any { return t.cells(o.(T), now) }
		}
	}
	if t.fields != nil {
		kind.Fields = func(o core.Object) map[string]string { return t.fields(o.(T)) }
	}
	gvk := kind.GroupVersionKind("")
	s := &Strategy{
		Kind: kind,
		New: func() core.Object {
			o := t.create()
			o.GetObjectKind().SetGroupVersionKind(gvk)
			return o
		},
		Default:        onOne(t.defaults),
		PrepareCreate:  onOne(t.prepareCreate),
		PrepareUpdate:  onTwo(t.prepareUpdate),
		ValidateUpdate: ofTwo(t.validateUpdate),
		CopyStatus:     onTwo(t.copyStatus),
		ValidateStatus: ofTwo(t.validateStatus),
		SpecChanged:    ofTwo(t.specChanged),
		Scale:          t.scale,
		Subresources:   t.subresources,
		Deleting:       onOne(t.deleting),
	}
	if t.held != nil {
		s.Held = func(o core.Object) bool { return t.held(o.(T)) }
	}
	if t.validate != nil {
		s.Validate = func(o core.Object) field.ErrorList { return t.validate(o.(T)) }
	}
	if t.warnings != nil {
		s.Warnings = func(o, old core.Object) []string {
			before, _ := old.(T) // nil stays nil
			return t.warnings(o.(T), before)
		}
	}
	if t.grace != nil {
		s.Grace = func(o core.Object, requested *int64) int64 { return t.grace(o.(T), requested) }
	}
	return s
}

func onOne[T core.Object](f func(T)) func(core.Object) {
	if f == nil {
		return nil
	}
	return func(o core.Object) { f(o.(T)) }
}

func onTwo[T core.Object](f func(a, b T)) func(a, b core.Object) {
	if f == nil {
		return nil
	}
	return func(a, b core.Object) { f(a.(T), b.(T)) }
}

func ofTwo[T core.Object, R any](f func(a, b T) R) func(a, b core.Object) R {
	if f == nil {
		return nil
	}
	return func(a, b core.Object) R { return f(a.(T), b.(T)) }
}
