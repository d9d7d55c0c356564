package registry

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func serviceAccountStrategy() *Strategy {
	return typed[*corev1.ServiceAccount]{
		kind: core.Kind{
			Kind: "ServiceAccount", ListKind: "ServiceAccountList", Resource: "serviceaccounts", Singular: "serviceaccount",
			ShortNames: []string{"sa"}, Namespaced: true, Storage: "v1",
		},
		create: func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Secrets", "integer", "How many secrets its pods may use."), ageColumn(),
		},
		cells: func(s *corev1.ServiceAccount, now time.Time) []any {
			return []any{s.Name, int64(len(s.Secrets)), age(s.CreationTimestamp, now)}
		},
		validate: func(s *corev1.ServiceAccount) field.ErrorList { return validateNamespaced(&s.ObjectMeta) },
		validateUpdate: func(s, old *corev1.ServiceAccount) field.ErrorList {
			return append(validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta), validateNamespaced(&s.ObjectMeta)...)
		},
	}.strategy()
}
