package apiserver

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// keepFrames is the largest buffer, in bytes, that an idle watch keeps.
const keepFrames = 16 << 10

// frames writes a watch's events: JSON objects, one a line, or
// length-delimited protobuf. It is not concurrent.
type frames struct {
	s       *Server
	w       http.ResponseWriter
	control *http.ResponseController
	q       *request
	a       answer
	table   *tabler // of a Table watch
	columns bool    // the next Table holds the columns; only the first does
	begun   bool
	buffer  []byte
}

func newFrames(s *Server, w http.ResponseWriter, q *request, a answer) *frames {
	f := &frames{s: s, w: w, control: http.NewResponseController(w), q: q, a: a, columns: true}
	if f.a.form == formYAML {
		f.a.form = formJSON // there is no stream of YAML
	}
	if a.as == asTable {
		f.table = newTabler(s, q, a.version)
	}
	return f
}

// begin sends the headers, so that the client knows that it watches.
func (f *frames) begin() {
	if f.begun {
		return
	}
	f.begun = true
	kind := typeJSON
	if f.a.form == formProtobuf {
		kind = typeProtobuf + ";stream=watch"
	}
	f.w.Header().Set("Content-Type", kind)
	f.w.WriteHeader(http.StatusOK)
	_ = f.control.Flush() // not every writer can
}

// add appends an event; stored says that the object's encoding may be kept.
func (f *frames) add(event string, object core.Object, stored bool) error {
	gvk, data, err := f.encode(object, stored)
	if err != nil {
		f.fail(err)
		_ = f.flush()
		return errAnswered
	}
	f.frame(event, gvk, data)
	if len(f.buffer) >= flushFrom {
		return f.flush()
	}
	return nil
}

func (f *frames) encode(object core.Object, stored bool) (schema.GroupVersionKind, []byte, error) {
	switch f.a.as {
	case asTable:
		f.table.now = time.Now()
		data, err := f.table.table(object, f.columns)
		f.columns = false
		return schema.GroupVersionKind{}, data, err
	case asPartial, asPartSet:
		p := partial(object, f.a.version)
		data, err := encodeObject(p, f.a.form)
		return p.GroupVersionKind(), data, err
	}
	gvk := f.q.kind.GroupVersionKind(f.q.version.Name)
	if stored {
		data, err := f.s.kept(f.q, object, f.a.form)
		return gvk, data, err
	}
	data, err := f.s.encode(f.q, object, f.a.form)
	return gvk, data, err
}

// frame appends one event with an encoded object. In protobuf it is
// WatchEvent{1: type, 2: RawExtension{1: the object in its envelope}}.
func (f *frames) frame(event string, gvk schema.GroupVersionKind, data []byte) {
	if f.a.form != formProtobuf {
		f.buffer = append(append(f.buffer, `{"type":"`...), event...)
		f.buffer = append(append(f.buffer, `","object":`...), data...)
		f.buffer = append(f.buffer, "}\n"...)
		return
	}
	raw := envelope(gvk, data)
	start := len(f.buffer)
	f.buffer = append(f.buffer, 0, 0, 0, 0)
	f.buffer = appendField(f.buffer, tag1, event)
	f.buffer = binary.AppendUvarint(append(f.buffer, tag2), uint64(2+varintExtra(len(raw))+len(raw)))
	f.buffer = appendField(f.buffer, tag1, raw)
	binary.BigEndian.PutUint32(f.buffer[start:], uint32(len(f.buffer)-start-4))
}

// fail appends an ERROR event.
func (f *frames) fail(err error) {
	f.begin()
	status := statusOf(err).Status()
	status.Kind, status.APIVersion = "Status", "v1"
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "Status"}
	if f.a.form == formProtobuf {
		if data, err := encodeObject(&status, formProtobuf); err == nil {
			f.frame("ERROR", gvk, data)
		}
		return
	}
	if data, err := json.Marshal(status); err == nil {
		f.frame("ERROR", gvk, data)
	}
}

// flush sends what has gathered. Any error means that the client is gone.
func (f *frames) flush() error {
	if len(f.buffer) == 0 {
		return nil
	}
	_ = f.control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer can
	_, err := f.w.Write(f.buffer)
	if cap(f.buffer) > keepFrames {
		f.buffer = nil // thousands of watches must not each keep a large one
	}
	f.buffer = f.buffer[:0]
	if err == nil {
		err = f.control.Flush()
	}
	_ = f.control.SetWriteDeadline(time.Time{})
	if err != nil && !isUnsupported(err) {
		return errAnswered
	}
	return nil
}

func isUnsupported(err error) bool { return errors.Is(err, http.ErrNotSupported) }
