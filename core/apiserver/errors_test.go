package apiserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

func TestLongErrorsAreCut(t *testing.T) {
	name := strings.Repeat("ü", 1<<12)
	var problems field.ErrorList
	for range 200 {
		problems = append(problems, field.Invalid(field.NewPath(name), name, "must be shorter"))
	}
	err := apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, name, problems)
	before := len(err.ErrStatus.Details.Causes)
	w := httptest.NewRecorder()
	writeStatus(w, err)
	if size := w.Body.Len(); size > 256<<10 {
		t.Errorf("an error of %d bytes", size)
	}
	if text := w.Body.String(); !strings.Contains(text, "bytes left out") || !strings.Contains(text, "must be shorter") {
		t.Errorf("the error does not say what is wrong: %.500s", text)
	}
	if w.Code != http.StatusUnprocessableEntity || len(err.ErrStatus.Details.Causes) != before || err.ErrStatus.Details.Name != name {
		t.Error("the error itself has changed")
	}
}

// noSecrets lets everyone do everything but with Secrets.
type noSecrets struct{ Authorizer }

func (noSecrets) Authorize(_ core.User, a *authorizationv1.ResourceAttributes, _ *authorizationv1.NonResourceAttributes) error {
	if a.Resource == "secrets" {
		return apierrors.NewForbidden(core.Secrets, a.Name, nil)
	}
	return nil
}

func TestPlanShowsNoSecrets(t *testing.T) {
	s := &Server{Config: Config{Authorize: noSecrets{}}}
	w := httptest.NewRecorder()
	report := map[string]any{"changes": []any{
		map[string]any{"verb": "create", "resource": "secrets", "name": "s", "after": "hidden", "before": "hidden"},
		map[string]any{"verb": "create", "resource": "pods", "name": "p", "after": map[string]any{"n": int64(1) << 60}},
	}}
	if err := s.answerPlan(w, httptest.NewRequest("POST", "/weft/v1/plan", nil), report); err != nil {
		t.Fatal(err)
	}
	text := w.Body.String()
	if strings.Contains(text, "hidden") {
		t.Errorf("the plan shows a Secret: %s", text)
	}
	for _, want := range []string{`"name":"s"`, `"n":1152921504606846976`} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan lacks %s: %s", want, text)
		}
	}
}
