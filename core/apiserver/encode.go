package apiserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/weftrun/weft/core"
)

// encodingLife is how long an unused encoding is kept, at least.
const encodingLife = 15 * time.Second

// encodings keeps encoded objects, so that a change is encoded once for all
// who watch it and repeated lists copy bytes only. Kept objects are shared and
// immutable, so an object's pointer is its identity; what was not read from
// the store must not be put in. Two generations bound size and age: the older
// one is dropped when the younger has half the limit or encodingLife passed.
type encodings struct {
	limit int // bytes

	mu         sync.Mutex // guards the fields below
	young, old map[encodingKey]*encoding
	size       int // of young, in bytes
}

type encodingKey struct {
	object  core.Object
	version string
	form    form
}

type encoding struct {
	once sync.Once
	data []byte
	err  error
}

func newEncodings(limit int) *encodings {
	return &encodings{limit: limit, young: map[encodingKey]*encoding{}}
}

// get returns the encoding under key, made by encode if it is not kept.
// Concurrent callers share one call of encode.
func (c *encodings) get(key encodingKey, encode func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	e := c.young[key]
	if e == nil {
		if e = c.old[key]; e == nil {
			e = &encoding{}
		} else {
			c.grow(len(e.data)) // it moves to the young
		}
		c.young[key] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		e.data, e.err = encode()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.grow(len(e.data))
	})
	return e.data, e.err
}

// entryCost is what an entry costs besides its data and its object.
const entryCost = 200

func (c *encodings) grow(bytes int) {
	c.size += bytes + entryCost
	if c.size > c.limit/2 {
		c.rotate()
	}
}

func (c *encodings) rotate() { c.old, c.young, c.size = c.young, map[encodingKey]*encoding{}, 0 }

// age drops what was not used since the call before.
func (c *encodings) age() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young)+len(c.old) > 0 {
		c.rotate()
	}
}

// kept encodes an object that was read from the store, through the cache. In
// protobuf it is the bare message, without Kubernetes' envelope.
func (s *Server) kept(q *request, object core.Object, f form) ([]byte, error) {
	if q.unkept {
		return s.encode(q, object, f)
	}
	return s.encoded.get(encodingKey{object, q.version.Name, f}, func() ([]byte, error) {
		return s.encode(q, object, f)
	})
}

// encode encodes an object of q's kind in q's version.
func (s *Server) encode(q *request, object core.Object, f form) ([]byte, error) {
	shown, err := s.convert(q, object)
	if err != nil {
		return nil, err
	}
	return encodeObject(shown, f)
}

// convert returns object in the version that q asks for.
func (s *Server) convert(q *request, object core.Object) (core.Object, error) {
	gvk := q.kind.GroupVersionKind(q.version.Name)
	if object.GetObjectKind().GroupVersionKind() == gvk {
		return object, nil
	}
	if s.Convert != nil {
		return s.Convert.Convert(object, q.version.Name)
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		shown := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
		shown.SetGroupVersionKind(gvk)
		return shown, nil
	}
	if object.GetObjectKind().GroupVersionKind().Version == gvk.Version || q.version.Name == q.kind.Storage {
		shown := core.Copy(object)
		shown.GetObjectKind().SetGroupVersionKind(gvk)
		return shown, nil
	}
	return nil, fmt.Errorf("convert %s to version %s: no conversion is known", q.key(), q.version.Name)
}

// message is what generated protobuf types can do.
type message interface {
	Size() int
	MarshalToSizedBuffer(data []byte) (int, error)
}

// encodeObject encodes in JSON without a newline, or as a bare message.
func encodeObject(object runtime.Object, f form) ([]byte, error) {
	switch f {
	case formProtobuf:
		m, ok := object.(message)
		if !ok {
			return nil, errNotAcceptable(typeJSON, typeYAML)
		}
		data := make([]byte, m.Size())
		n, err := m.MarshalToSizedBuffer(data)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", object, err)
		}
		return data[len(data)-n:], nil
	case formYAML:
		data, err := encodeObject(object, formJSON)
		if err != nil {
			return nil, err
		}
		return toYAML(data)
	}
	var data []byte
	var err error
	if u, ok := object.(*unstructured.Unstructured); ok {
		data, err = json.Marshal(u.Object)
	} else {
		data, err = json.Marshal(object)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", object, err)
	}
	return data, nil
}

func toYAML(data []byte) ([]byte, error) {
	out, err := yaml.JSONToYAML(data)
	if err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return out, nil
}

// Kubernetes' protobuf envelope is the magic below and a runtime.Unknown:
// 1: TypeMeta{1: apiVersion, 2: kind}, 2: the message, 3: content encoding,
// 4: content type, the last two empty.
var magic = []byte("k8s\x00")

const (
	tag1 = 1<<3 | 2 // field 1, length-delimited
	tag2 = 2<<3 | 2
	tag3 = 3<<3 | 2
	tag4 = 4<<3 | 2
)

// appendEnvelope appends the envelope up to where a message of size bytes
// follows, after which appendEnvelopeEnd is due.
func appendEnvelope(b []byte, gvk schema.GroupVersionKind, size int) []byte {
	version := gvk.GroupVersion().String()
	meta := 2 + len(version) + 2 + len(gvk.Kind) // both shorter than 128 bytes, as checked below
	b = append(b, magic...)
	b = binary.AppendUvarint(append(b, tag1), uint64(meta+varintExtra(len(version))+varintExtra(len(gvk.Kind))))
	b = appendField(b, tag1, version)
	b = appendField(b, tag2, gvk.Kind)
	return binary.AppendUvarint(append(b, tag2), uint64(size))
}

func appendEnvelopeEnd(b []byte) []byte { return append(b, tag3, 0, tag4, 0) }

func appendField[T string | []byte](b []byte, tag byte, value T) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(value)))
	return append(b, value...)
}

// varintExtra is how many bytes more than one a length takes.
func varintExtra(n int) int {
	extra := 0
	for n >= 0x80 {
		n >>= 7
		extra++
	}
	return extra
}

// envelope wraps a message of the kind gvk.
func envelope(gvk schema.GroupVersionKind, data []byte) []byte {
	b := appendEnvelope(make([]byte, 0, len(data)+64+len(gvk.Kind)+len(gvk.Group)), gvk, len(data))
	return appendEnvelopeEnd(append(b, data...))
}

// encodeWhole encodes an object as a whole answer: with the envelope or a
// final newline.
func encodeWhole(object runtime.Object, f form) ([]byte, error) {
	data, err := encodeObject(object, f)
	if err != nil {
		return nil, err
	}
	return finish(object.GetObjectKind().GroupVersionKind(), data, f), nil
}

func finish(gvk schema.GroupVersionKind, data []byte, f form) []byte {
	switch f {
	case formProtobuf:
		return envelope(gvk, data)
	case formYAML:
		return data
	}
	if bytes.HasSuffix(data, []byte("\n")) {
		return data
	}
	return append(slices.Clip(data), '\n')
}
