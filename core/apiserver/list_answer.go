package apiserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// answerList writes what a listing found in the form that was negotiated,
// item by item: no list object is ever built.
func (s *Server) answerList(w http.ResponseWriter, r *http.Request, q *request, l *listing, a answer) error {
	item, gvk, head := s.itemEncoder(q, a)
	if a.form == formProtobuf {
		return answerProtobufList(w, r, l, gvk, item)
	}
	if a.form == formYAML {
		return answerYAMLList(w, r, l, gvk, head, item)
	}
	w.Header().Set("Content-Type", typeJSON)
	b := newBody(w, r, http.StatusOK)
	if err := writeJSONList(b, l, gvk, head, item); err != nil {
		if b.Begun() {
			panic(http.ErrAbortHandler) // a broken connection is the only way to tell
		}
		return err
	}
	if b.Close() != nil {
		return errAnswered
	}
	return nil
}

// itemEncoder returns how to encode an item, the list's kind, and what a JSON
// list holds before its items: the name of that field and, of tables, columns.
func (s *Server) itemEncoder(q *request, a answer) (func(core.Object) ([]byte, error), schema.GroupVersionKind, string) {
	metaKind := schema.GroupVersionKind{Group: "meta.k8s.io", Version: a.version}
	form := a.form
	if form == formYAML {
		form = formJSON
	}
	switch a.as {
	case asTable:
		t := newTabler(s, q, a.version)
		metaKind.Kind = "Table"
		return t.row, metaKind, `"columnDefinitions":` + t.columns + `,"rows"`
	case asPartSet:
		metaKind.Kind = asPartSet
		return func(o core.Object) ([]byte, error) { return encodeObject(partial(o, a.version), form) }, metaKind, `"items"`
	}
	gvk := schema.GroupVersionKind{Group: q.kind.Group, Version: q.version.Name, Kind: q.kind.ListKind}
	return func(o core.Object) ([]byte, error) { return s.kept(q, o, form) }, gvk, `"items"`
}

// partial is an object's metadata alone.
func partial(o core.Object, version string) *metav1.PartialObjectMetadata {
	p := meta.AsPartialObjectMetadata(o)
	p.Kind, p.APIVersion = asPartial, "meta.k8s.io/"+version
	return p
}

type writer interface{ Write(p []byte) (int, error) }

func writeJSONList(b writer, l *listing, gvk schema.GroupVersionKind, head string, item func(core.Object) ([]byte, error)) error {
	meta, err := json.Marshal(l.meta)
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	buffer := make([]byte, 0, 64<<10) // gathers items, so that few writes are made
	buffer = fmt.Appendf(buffer, `{"kind":%q,"apiVersion":%q,"metadata":%s,%s:[`, gvk.Kind, gvk.GroupVersion().String(), meta, head)
	for i, object := range l.items {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		data, err := item(object)
		if err != nil {
			return err
		}
		if len(buffer)+len(data) > cap(buffer) {
			if _, err := b.Write(buffer); err != nil {
				return errAnswered
			}
			buffer = buffer[:0]
		}
		if len(data) > cap(buffer) {
			if _, err := b.Write(data); err != nil {
				return errAnswered
			}
			continue
		}
		buffer = append(buffer, data...)
	}
	if _, err := b.Write(append(buffer, "]}\n"...)); err != nil {
		return errAnswered
	}
	return nil
}

func answerYAMLList(w http.ResponseWriter, r *http.Request, l *listing, gvk schema.GroupVersionKind, head string, item func(core.Object) ([]byte, error)) error {
	var buffer bytes.Buffer
	if err := writeJSONList(&buffer, l, gvk, head, item); err != nil {
		return err
	}
	data, err := toYAML(buffer.Bytes())
	if err != nil {
		return err
	}
	return answerBytes(w, r, http.StatusOK, typeYAML, data)
}

// answerProtobufList relies on what all list types of Kubernetes share:
// metadata is field 1 and items is field 2 (a test checks it). Its length
// stands before the list, so all items are encoded first.
func answerProtobufList(w http.ResponseWriter, r *http.Request, l *listing, gvk schema.GroupVersionKind, item func(core.Object) ([]byte, error)) error {
	meta, err := l.meta.Marshal()
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	size := 2 + varintExtra(len(meta)) + len(meta)
	items := make([][]byte, len(l.items))
	for i, object := range l.items {
		if items[i], err = item(object); err != nil {
			return err
		}
		size += 2 + varintExtra(len(items[i])) + len(items[i])
	}
	w.Header().Set("Content-Type", typeProtobuf)
	b := newBody(w, r, http.StatusOK)
	buffer := appendEnvelope(make([]byte, 0, 64<<10), gvk, size)
	buffer = appendField(buffer, tag1, meta)
	for _, data := range items {
		if len(buffer)+len(data)+8 > cap(buffer) {
			if _, err := b.Write(buffer); err != nil {
				return errAnswered
			}
			buffer = buffer[:0]
		}
		buffer = binary.AppendUvarint(append(buffer, tag2), uint64(len(data)))
		buffer = append(buffer, data...)
	}
	if _, err := b.Write(appendEnvelopeEnd(buffer)); err != nil || b.Close() != nil {
		return errAnswered
	}
	return nil
}
