package apiserver

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// RuleLister is an Authorizer that can list what a user may do, for
// "kubectl auth can-i --list".
type RuleLister interface {
	Rules(user core.User) (resources []authorizationv1.ResourceRule, paths []authorizationv1.NonResourceRule)
}

// virtual is a resource of which nothing is kept: it answers questions.
type virtual struct {
	group, kind, resource string
}

var virtuals = []virtual{
	{authenticationv1.GroupName, "SelfSubjectReview", "selfsubjectreviews"},
	{authorizationv1.GroupName, "SelfSubjectAccessReview", "selfsubjectaccessreviews"},
	{authorizationv1.GroupName, "SelfSubjectRulesReview", "selfsubjectrulesreviews"},
}

// serveVirtual answers for virtual resources; done tells whether q names one.
func (s *Server) serveVirtual(w http.ResponseWriter, r *http.Request, q *request) (done bool, err error) {
	for _, v := range virtuals {
		if v.group != q.group || v.resource != q.resource {
			continue
		}
		switch {
		case q.apiVersion != "v1" || q.name != "" || q.namespace != "":
			return true, errNoResource()
		case q.verb != "create":
			return true, apierrors.NewMethodNotSupported(q.groupResource(), q.verb)
		}
		return true, s.review(w, r, q, v)
	}
	return false, nil
}

func (s *Server) review(w http.ResponseWriter, r *http.Request, q *request, v virtual) error {
	want := schema.GroupVersionKind{Group: v.group, Version: "v1", Kind: v.kind}
	o, err := writeOptions(w, r, q)
	if err != nil {
		return err
	}
	body, strict, err := s.readObject(w, r, want, false)
	if err != nil {
		return err
	}
	if err := judgeStrict(want, strict, &o); err != nil {
		return err
	}
	switch body := body.(type) {
	case *authenticationv1.SelfSubjectReview:
		body.Status.UserInfo = authenticationv1.UserInfo{Username: q.user.Name, UID: q.user.UID, Groups: q.user.Groups}
	case *authorizationv1.SelfSubjectAccessReview:
		if (body.Spec.ResourceAttributes == nil) == (body.Spec.NonResourceAttributes == nil) {
			return apierrors.NewBadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be set")
		}
		refused := s.Authorize.Authorize(q.user, body.Spec.ResourceAttributes, body.Spec.NonResourceAttributes)
		body.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: refused == nil}
	case *authorizationv1.SelfSubjectRulesReview:
		rules, ok := s.Authorize.(RuleLister)
		body.Status.Incomplete = !ok
		if ok {
			body.Status.ResourceRules, body.Status.NonResourceRules = rules.Rules(q.user)
		}
	}
	return answerRuntime(w, r, http.StatusCreated, body)
}
