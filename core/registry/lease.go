package registry

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func leaseStrategy() *Strategy {
	return typed[*coordinationv1.Lease]{
		kind: core.Kind{
			Group: core.Leases.Group, Kind: "Lease", ListKind: "LeaseList", Resource: core.Leases.Resource, Singular: "lease",
			Namespaced: true, Storage: "v1", Durability: core.Volatile,
		},
		create: func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Holder", "string", "Who holds the lease."), ageColumn(),
		},
		cells: func(l *coordinationv1.Lease, now time.Time) []any {
			holder := ""
			if l.Spec.HolderIdentity != nil {
				holder = *l.Spec.HolderIdentity
			}
			return []any{l.Name, holder, age(l.CreationTimestamp, now)}
		},
		validate: validateLease,
		validateUpdate: func(l, old *coordinationv1.Lease) field.ErrorList {
			return append(validateMetaUpdate(&l.ObjectMeta, &old.ObjectMeta), validateLease(l)...)
		},
	}.strategy()
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	errs := validateNamespaced(&l.ObjectMeta)
	s := &l.Spec
	if d := s.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(specPath.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	errs = append(errs, nonNegative(s.LeaseTransitions, specPath.Child("leaseTransitions"))...)
	if s.Strategy != nil {
		errs = append(errs, qualifiedName(string(*s.Strategy), specPath.Child("strategy"))...)
	} else if p := s.PreferredHolder; p != nil && *p != "" {
		errs = append(errs, field.Forbidden(specPath.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}
