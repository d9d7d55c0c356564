package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/weftrun/weft/core"
)

func (s *Server) create(w http.ResponseWriter, r *http.Request, q *request) error {
	o, err := writeOptions(w, r, q)
	if err != nil {
		return err
	}
	object, err := s.readBodyFor(w, r, q, &o)
	if err != nil {
		return err
	}
	created, err := s.Client.Create(r.Context(), object, o)
	if err != nil {
		return err
	}
	return s.answerObject(w, r, q, http.StatusCreated, created, false)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request, q *request) error {
	o, err := writeOptions(w, r, q)
	if err != nil {
		return err
	}
	object, err := s.readBodyFor(w, r, q, &o)
	if err != nil {
		return err
	}
	if err := checkName(object, q); err != nil {
		return err
	}
	updated, err := s.Client.Update(r.Context(), q.key(), object, o)
	if err != nil {
		return err
	}
	return s.answerObject(w, r, q, http.StatusOK, updated, false)
}

// readBodyFor reads an object of q's kind and puts it into q's namespace.
func (s *Server) readBodyFor(w http.ResponseWriter, r *http.Request, q *request, o *core.WriteOptions) (core.Object, error) {
	gvk := q.kind.GroupVersionKind(q.version.Name)
	object, strict, err := s.readObject(w, r, gvk, q.kind.Custom)
	if err != nil {
		return nil, err
	}
	if err := judgeStrict(gvk, strict, o); err != nil {
		return nil, err
	}
	return object, checkNamespace(object, q)
}

func checkNamespace(object core.Object, q *request) error {
	switch {
	case object.GetNamespace() == q.namespace:
	case object.GetNamespace() != "" && q.kind.Namespaced:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	default:
		object.SetNamespace(q.namespace)
	}
	return nil
}

func checkName(object core.Object, q *request) error {
	switch object.GetName() {
	case q.name:
		return nil
	case "":
		return apierrors.NewBadRequest("name must be provided")
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", object.GetName(), q.name))
}

// judgeStrict refuses, warns of, or ignores unknown and duplicate fields.
func judgeStrict(gvk schema.GroupVersionKind, strict []error, o *core.WriteOptions) error {
	if len(strict) == 0 {
		return nil
	}
	switch o.FieldValidation {
	case metav1.FieldValidationStrict:
		texts := make([]string, len(strict))
		for i, err := range strict {
			texts[i] = err.Error()
		}
		return errHandled(gvk, gvk.Kind, errors.New("strict decoding error: "+strings.Join(texts, ", ")))
	case metav1.FieldValidationWarn:
		for _, err := range strict {
			o.Warn(err.Error())
		}
	}
	return nil
}

// writeOptions reads the parameters of a create or update.
func writeOptions(w http.ResponseWriter, r *http.Request, q *request) (core.WriteOptions, error) {
	options := metav1.CreateOptions{
		DryRun: q.query["dryRun"], FieldManager: q.query.Get("fieldManager"), FieldValidation: q.query.Get("fieldValidation"),
	}
	kind := schema.GroupKind{Group: "meta.k8s.io", Kind: "CreateOptions"}
	errs := validation.ValidateCreateOptions(&options)
	if q.verb == "update" {
		kind.Kind = "UpdateOptions"
	}
	if len(errs) > 0 {
		return core.WriteOptions{}, apierrors.NewInvalid(kind, "", errs)
	}
	return core.WriteOptions{
		Version: q.apiVersion, Subresource: q.subresource,
		DryRun: len(options.DryRun) > 0, FieldManager: managerOf(r, options.FieldManager),
		FieldValidation: validationOf(options.FieldValidation), Warn: warner(w),
	}, nil
}

// validationOf applies the default of requests: warn.
func validationOf(level string) string {
	if level == "" {
		return metav1.FieldValidationWarn
	}
	return level
}

// managerOf names who writes: what the client says, or its program's name.
func managerOf(r *http.Request, named string) string {
	if named != "" {
		return named
	}
	agent, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(agent) > validation.FieldManagerMaxLength {
		agent = agent[:validation.FieldManagerMaxLength]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, agent)
}

// maxWarnings bounds the warnings of one answer.
const maxWarnings = 50

// warner adds Warning headers to an answer that has not begun.
func warner(w http.ResponseWriter) func(string) {
	given := map[string]bool{}
	return func(text string) {
		if given[text] || len(given) >= maxWarnings {
			return
		}
		given[text] = true
		if header, err := utilnet.NewWarningHeader(299, "-", text); err == nil {
			w.Header().Add("Warning", header)
		}
	}
}
