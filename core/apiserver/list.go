package apiserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// listing is what a list request asks for, and what it has found.
type listing struct {
	selector
	snapshot core.Snapshot
	limit    int64 // 0: all
	after    core.Key
	items    []core.Object
	meta     metav1.ListMeta
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, q *request) error {
	a, err := negotiate(r, q.kind.Custom, asTable, asPartSet)
	if err != nil {
		return err
	}
	l, err := s.find(r.Context(), q)
	if err != nil {
		return err
	}
	return s.answerList(w, r, q, l, a)
}

// find reads the objects that q asks for.
func (s *Server) find(ctx context.Context, q *request) (*listing, error) {
	if q.query.Has("sendInitialEvents") {
		return nil, invalidList(field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	}
	l := &listing{}
	var err error
	if l.selector, err = parseSelector(q.query, q.kind, q.version.Name); err != nil {
		return nil, err
	}
	if text := q.query.Get("limit"); text != "" {
		if l.limit, err = strconv.ParseInt(text, 10, 64); err != nil || l.limit < 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid limit %q: it must be a number of 0 or more", text))
		}
	}
	if err := s.pin(ctx, q, l); err != nil {
		return nil, err
	}
	l.collect(q)
	if l.meta.Continue != "" {
		s.pages.keep(l.snapshot, time.Now())
	}
	l.meta.ResourceVersion = core.FormatRevision(l.snapshot.Revision())
	return l, nil
}

// pin chooses the snapshot to read, by Kubernetes' rules for resourceVersion,
// resourceVersionMatch and continue.
func (s *Server) pin(ctx context.Context, q *request, l *listing) error {
	revision, match := q.query.Get("resourceVersion"), q.query.Get("resourceVersionMatch")
	if err := checkMatch(revision, match, q.query.Get("continue")); err != nil {
		return err
	}
	if text := q.query.Get("continue"); text != "" {
		return s.resume(ctx, text, q, l)
	}
	at, err := parseRevision(revision)
	if err != nil {
		return err
	}
	if l.snapshot, err = s.atLeast(ctx, at); err != nil {
		return err
	}
	exact := match == string(metav1.ResourceVersionMatchExact) || match == "" && l.limit > 0 && at > 0
	if exact && l.snapshot.Revision() != at {
		if l.snapshot = s.pages.at(at); l.snapshot == nil {
			return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided list is too old: %d is no longer kept.", at))
		}
	}
	return nil
}

func checkMatch(revision, match, token string) error {
	switch {
	case match == "":
		return nil
	case match != string(metav1.ResourceVersionMatchExact) && match != string(metav1.ResourceVersionMatchNotOlderThan):
		return invalidList(field.NotSupported(matchPath, match, []string{
			string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), "",
		}))
	case token != "":
		return invalidList(field.Forbidden(matchPath, "resourceVersionMatch is forbidden when continue is provided"))
	case revision == "":
		return invalidList(field.Forbidden(matchPath, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
	case revision == "0" && match == string(metav1.ResourceVersionMatchExact):
		return invalidList(field.Forbidden(matchPath, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
	}
	return nil
}

var matchPath = field.NewPath("resourceVersionMatch")

func invalidList(errs ...*field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", errs)
}

// collect walks the snapshot once, in the order of keys.
func (l *listing) collect(q *request) {
	var remaining int64
	more := false
	for key, object := range l.walk(q) {
		if l.after.Name != "" && !l.after.Less(key) || !l.matches(object) {
			continue
		}
		if l.limit == 0 || int64(len(l.items)) < l.limit {
			l.items = append(l.items, object)
			continue
		}
		more = true
		remaining++
		if !l.all() {
			break // with a selector the remainder is not told, as in Kubernetes
		}
	}
	if !more {
		return
	}
	last := l.items[len(l.items)-1]
	l.meta.Continue = token{Revision: l.snapshot.Revision(), Namespace: last.GetNamespace(), Name: last.GetName()}.String()
	if l.all() {
		l.meta.RemainingItemCount = &remaining
	}
}

// walk yields the candidates in order, few if the selector permits.
func (l *listing) walk(q *request) iter.Seq2[core.Key, core.Object] {
	switch {
	case l.name != "" && (q.namespace != "" || !q.kind.Namespaced):
		return l.named(q)
	case l.node != "":
		return l.onNode(q)
	}
	if l.limit == 0 && l.all() && q.namespace == "" {
		l.items = make([]core.Object, 0, l.snapshot.Count(q.groupResource()))
	}
	return l.snapshot.List(q.groupResource(), q.namespace)
}

// named yields the one object that a field selector names.
func (l *listing) named(q *request) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		key := q.key()
		key.Name = l.name
		if object, ok := l.snapshot.Get(key); ok {
			yield(key, object)
		}
	}
}

// onNode yields what is bound to the node that a field selector names.
func (l *listing) onNode(q *request) iter.Seq2[core.Key, core.Object] {
	return func(yield func(core.Key, core.Object) bool) {
		for key, object := range l.snapshot.Indexed(core.ByNode, l.node) {
			if key.GroupResource() != q.groupResource() || q.namespace != "" && key.Namespace != q.namespace {
				continue
			}
			if !yield(key, object) {
				return
			}
		}
	}
}

// token is what continue parameters hold. A revision of -1 goes on with the
// newest state, which may not be consistent with the pages before.
type token struct {
	Revision  int64  `json:"rv"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
}

func (t token) String() string {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // it holds a number and strings
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func parseToken(text string) (token, error) {
	var t token
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil || t.Name == "" || t.Revision == 0 || t.Revision < -1 {
		return t, apierrors.NewBadRequest("continue key is not valid: it is not one that this server gave")
	}
	return t, nil
}

// resume goes on with the snapshot that a token names, or offers to go on
// with the newest one.
func (s *Server) resume(ctx context.Context, text string, q *request, l *listing) error {
	if revision := q.query.Get("resourceVersion"); revision != "" && revision != "0" {
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	t, err := parseToken(text)
	if err != nil {
		return err
	}
	l.after = q.key()
	l.after.Namespace, l.after.Name = t.Namespace, t.Name
	newest, err := s.atLeast(ctx, 0)
	if err != nil {
		return err
	}
	switch {
	case t.Revision == -1 || t.Revision == newest.Revision():
		l.snapshot = newest
	default:
		l.snapshot = s.pages.at(t.Revision)
	}
	if l.snapshot != nil {
		return nil
	}
	t.Revision = -1
	expired := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results, " +
		"which may be inconsistent with the pages before.")
	expired.ErrStatus.Continue = t.String()
	return expired
}

// pages keeps the snapshots that continue tokens name, for a while.
type pages struct {
	mu   sync.Mutex // guards kept
	kept []page     // by age, the oldest first
}

type page struct {
	snapshot core.Snapshot
	until    time.Time
}

const (
	maxPages = 64              // snapshots kept; each costs what changed since
	pageLife = 5 * time.Minute // as long as Kubernetes' compaction leaves
)

func (p *pages) keep(snapshot core.Snapshot, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(k page) bool {
		return now.After(k.until) || k.snapshot.Revision() == snapshot.Revision()
	})
	if len(p.kept) >= maxPages {
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	p.kept = append(p.kept, page{snapshot, now.Add(pageLife)})
}

func (p *pages) at(revision int64) core.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		if k.snapshot.Revision() == revision {
			return k.snapshot
		}
	}
	return nil
}

func (p *pages) age(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(k page) bool { return now.After(k.until) })
}
