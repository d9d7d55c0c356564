package apiserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
)

// maxPlan bounds the objects of one plan.
const maxPlan = 1000

// Blob is what the API tells of a blob.
type Blob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// Modified is when it was stored; not set by an upload.
	Modified *time.Time `json:"modified,omitempty"`
}

// serveWeft answers Weft's own endpoints.
func (s *Server) serveWeft(w http.ResponseWriter, r *http.Request, path string) error {
	switch {
	case path == "/weft/v1/blobs" && s.Blobs != nil:
		switch r.Method {
		case http.MethodGet:
			return s.listBlobs(w, r)
		case http.MethodPut:
			return s.putBlob(w, r)
		}
	case path == backupPath && s.Backup != nil:
		// Not to be got: who may only read must not read Secrets.
		if r.Method == http.MethodPost {
			return s.backup(w, r)
		}
	case path == "/weft/v1/plan" && s.Plan != nil:
		if r.Method == http.MethodPost {
			return s.plan(w, r)
		}
	default:
		return errNoResource()
	}
	return failure(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource")
}

func (s *Server) listBlobs(w http.ResponseWriter, r *http.Request) error {
	found, err := s.Blobs.ListBlobs(r.Context())
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	list := struct {
		Items []Blob `json:"items"`
	}{Items: make([]Blob, 0, len(found))}
	for _, b := range found {
		list.Items = append(list.Items, Blob{Digest: b.Name, Size: b.Size, Modified: &b.Modified})
	}
	return answerJSON(w, r, http.StatusOK, list)
}

const backupPath = "/weft/v1/backup"

// BackupKeyHeader holds the key that a backup is to be encrypted with, in
// base64.
const BackupKeyHeader = "Weft-Backup-Key"

// backup sends a backup, which has its end within itself: an error on the way
// breaks the connection.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get(BackupKeyHeader))
	if err != nil || len(key) != 32 {
		return apierrors.NewBadRequest("the header " + BackupKeyHeader + " must hold 32 bytes in base64")
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &patientWriter{w: w, control: http.NewResponseController(w)}
	err = s.Backup(r.Context(), out, key, r.URL.Query().Get("modules") != "false")
	if err != nil && out.begun {
		s.Log.Warn("a backup was not finished", "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// patientWriter gives each write of a long answer its own deadline.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
	begun   bool
}

func (p *patientWriter) Write(data []byte) (int, error) {
	p.begun = true
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer can
	return p.w.Write(data)
}

func answerJSON(w http.ResponseWriter, r *http.Request, code int, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %T: %w", value, err)
	}
	return answerBytes(w, r, code, typeJSON, append(data, '\n'))
}

// putBlob spools the body to a file, since a blob's name is its digest, which
// is not known before the end.
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) (err error) {
	if r.ContentLength > s.MaxBlob {
		return errTooLarge(s.MaxBlob)
	}
	spool, err := os.CreateTemp(s.SpoolDir, "weft-blob-*")
	if err != nil {
		return fmt.Errorf("spool blob: %w", err)
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	sum := sha256.New()
	source := &patientReader{r: http.MaxBytesReader(w, r.Body, s.MaxBlob), control: http.NewResponseController(w)}
	size, err := io.Copy(io.MultiWriter(spool, sum), source)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge(s.MaxBlob)
	case err != nil:
		return apierrors.NewBadRequest(fmt.Sprintf("read blob after %d bytes: %v", size, err))
	case size == 0:
		return apierrors.NewBadRequest("the blob is empty")
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("spool blob: %w", err)
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if want := r.URL.Query().Get("digest"); want != "" && want != digest {
		return apierrors.NewBadRequest(fmt.Sprintf("the blob's digest is %s, not %s", digest, want))
	}
	if _, err := s.Blobs.PutBlob(r.Context(), digest, s.MaxBlob, spool); err != nil {
		return fmt.Errorf("store blob %s: %w", digest, err)
	}
	return answerJSON(w, r, http.StatusOK, Blob{Digest: digest, Size: size})
}

// patientReader gives each read of a long body its own deadline.
type patientReader struct {
	r       io.Reader
	control *http.ResponseController
}

func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(bodyTime)) // not every writer can
	n, err := p.r.Read(b)
	if errors.Is(err, io.EOF) {
		_ = p.control.SetReadDeadline(time.Time{}) // else it stays: net/http reads on before it answers
	}
	return n, err
}

// plan answers what the controllers would do with the objects of a list.
func (s *Server) plan(w http.ResponseWriter, r *http.Request) error {
	data, err := readBody(w, r, s.MaxBody)
	if err != nil {
		return err
	}
	if kind := contentType(r); kind != typeJSON {
		return errMediaType(typeJSON)
	}
	objects, err := decodePlan(data)
	if err != nil {
		return err
	}
	if err := s.mayPlan(r, objects); err != nil {
		return err
	}
	report, err := s.Plan.Plan(r.Context(), objects)
	if err != nil {
		return err
	}
	return s.answerPlan(w, r, report)
}

// answerPlan leaves the content out of changes to what the user may not read:
// controllers make objects that nobody asked about, Secrets among them.
func (s *Server) answerPlan(w http.ResponseWriter, r *http.Request, report any) error {
	data, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	var shown map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // or large numbers change their looks
	if err := decoder.Decode(&shown); err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	user, _ := core.UserFrom(r.Context())
	changes, _ := shown["changes"].([]any)
	for _, item := range changes {
		change, ok := item.(map[string]any)
		if !ok {
			continue
		}
		field := func(name string) string { value, _ := change[name].(string); return value }
		if s.Authorize.Authorize(user, &authorizationv1.ResourceAttributes{
			Verb: "get", Group: field("group"), Resource: field("resource"), Namespace: field("namespace"), Name: field("name"),
		}, nil) != nil {
			delete(change, "before")
			delete(change, "after")
		}
	}
	return answerJSON(w, r, http.StatusOK, shown)
}

// mayPlan refuses objects that the user may not read: a plan shows them.
func (s *Server) mayPlan(r *http.Request, objects []core.Object) error {
	user, _ := core.UserFrom(r.Context())
	for i, object := range objects {
		gvk := object.GetObjectKind().GroupVersionKind()
		kind, ok := s.Client.KindNamed(gvk.GroupKind())
		if !ok || kind.Internal {
			return apierrors.NewBadRequest(fmt.Sprintf("items[%d]: the kind %s is not served", i, gvk))
		}
		err := s.Authorize.Authorize(user, &authorizationv1.ResourceAttributes{
			Verb: "get", Group: gvk.Group, Version: gvk.Version, Resource: kind.Resource,
			Namespace: object.GetNamespace(), Name: object.GetName(),
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// decodePlan reads a v1 List, strictly.
func decodePlan(data []byte) ([]core.Object, error) {
	if err := checkDepth(data); err != nil {
		return nil, err
	}
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Items           []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, apierrors.NewBadRequest("decode list: " + err.Error())
	}
	if list.Kind != "List" || list.APIVersion != "v1" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a List of v1 is wanted, not %q of %q", list.Kind, list.APIVersion))
	}
	if len(list.Items) > maxPlan {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the list holds %d objects; at most %d can be planned at once", len(list.Items), maxPlan))
	}
	objects := make([]core.Object, 0, len(list.Items))
	for i, item := range list.Items {
		var meta unstructured.Unstructured
		if err := json.Unmarshal(item, &meta); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("items[%d]: %v", i, err))
		}
		gvk := meta.GroupVersionKind()
		object, strict, err := decodeJSON(item, gvk, !core.Scheme().Recognizes(gvk))
		if err == nil && len(strict) > 0 {
			err = errHandled(gvk, gvk.Kind, fmt.Errorf("strict decoding error: %w", errors.Join(strict...)))
		}
		if err != nil {
			return nil, within(fmt.Sprintf("items[%d]", i), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
