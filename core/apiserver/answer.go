package apiserver

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weftrun/weft/core"
)

// gzipFrom is from how many bytes on an answer is compressed.
const gzipFrom = 128 << 10

// answerObject answers with one object of q's kind. stored says that it was
// read from the store, so that its encoding may be kept.
func (s *Server) answerObject(w http.ResponseWriter, r *http.Request, q *request, code int, object core.Object, stored bool) error {
	a, err := negotiate(r, q.kind.Custom, asTable, asPartial)
	if err != nil {
		return err
	}
	if a.as != "" {
		return s.answerShaped(w, r, q, code, object, a)
	}
	f := a.form
	if f == formYAML {
		f = formJSON
	}
	encode := s.encode
	if stored {
		encode = s.kept
	}
	data, err := encode(q, object, f)
	if err != nil {
		return err
	}
	if a.form == formYAML {
		if data, err = toYAML(data); err != nil {
			return err
		}
	}
	gvk := q.kind.GroupVersionKind(q.version.Name)
	return answerBytes(w, r, code, a.form.mediaType(), finish(gvk, data, a.form))
}

// answerRuntime answers with an object that is no kind's: a Status, a review.
func answerRuntime(w http.ResponseWriter, r *http.Request, code int, object runtime.Object) error {
	a, err := negotiate(r, false)
	if err != nil {
		return err
	}
	data, err := encodeWhole(object, a.form)
	if err != nil {
		return err
	}
	return answerBytes(w, r, code, a.form.mediaType(), data)
}

// answerSuccess answers with a Status that says Success.
func answerSuccess(w http.ResponseWriter, r *http.Request, code int, details *metav1.StatusDetails) error {
	return answerRuntime(w, r, code, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess, Details: details, Code: int32(code),
	})
}

// answerBytes writes a whole answer, compressed if large.
func answerBytes(w http.ResponseWriter, r *http.Request, code int, contentType string, data []byte) error {
	w.Header().Set("Content-Type", contentType)
	if len(data) < gzipFrom {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	b := newBody(w, r, code)
	if _, err := b.Write(data); err != nil {
		return errAnswered
	}
	if b.Close() != nil {
		return errAnswered
	}
	return nil
}

// body writes an answer of unknown size: what stays below gzipFrom goes out
// as it is, with its length; a larger one is compressed if the client takes
// that. Nothing is sent before that is known, so until then the answer can
// still become an error. It is not concurrent.
type body struct {
	w       http.ResponseWriter
	r       *http.Request
	code    int
	held    []byte
	out     io.Writer // set when the answer has begun
	zip     *gzip.Writer
	control *http.ResponseController
}

func newBody(w http.ResponseWriter, r *http.Request, code int) *body {
	return &body{w: w, r: r, code: code, control: http.NewResponseController(w)}
}

// Begun tells whether anything was sent.
func (b *body) Begun() bool { return b.out != nil }

func (b *body) Write(p []byte) (int, error) {
	if b.out == nil {
		if len(b.held)+len(p) < gzipFrom {
			b.held = append(b.held, p...)
			return len(p), nil
		}
		b.begin()
		if _, err := b.out.Write(b.held); err != nil {
			return 0, err
		}
		b.held = nil
	}
	_ = b.control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer can
	return b.out.Write(p)
}

func (b *body) begin() {
	b.out = b.w
	if acceptsGzip(b.r) {
		b.w.Header().Del("Content-Length")
		b.w.Header().Set("Content-Encoding", "gzip")
		b.w.Header().Add("Vary", "Accept-Encoding")
		b.zip = zippers.Get().(*gzip.Writer)
		b.zip.Reset(b.w)
		b.out = b.zip
	}
	b.w.WriteHeader(b.code)
}

// Close sends what is held back and ends the answer.
func (b *body) Close() error {
	if b.out == nil { // so it has no deadline either
		b.w.Header().Set("Content-Length", strconv.Itoa(len(b.held)))
		b.w.WriteHeader(b.code)
		_, err := b.w.Write(b.held)
		return err
	}
	defer func() { _ = b.control.SetWriteDeadline(time.Time{}) }()
	if b.zip == nil {
		return nil
	}
	err := b.zip.Close()
	b.zip.Reset(io.Discard)
	zippers.Put(b.zip)
	return err
}

// zippers are large (some 800 KiB each) and costly to make.
var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

// acceptsGzip tells whether to compress: never for a client on this machine,
// whose network is faster than any compression.
func acceptsGzip(r *http.Request) bool {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			return false
		}
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
