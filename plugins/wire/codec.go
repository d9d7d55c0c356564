package wire

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
)

// Capabilities that the two sides may agree upon.
const (
	CapabilityProtobuf = "protobuf" // objects in Kubernetes' protobuf envelope
	CapabilityCache    = "cache"    // slots without objects
)

// Encoding is how objects are written; both sides read either form.
type Encoding int

// The encodings. JSON is what every language can read.
const (
	JSON Encoding = iota
	Protobuf
)

// Encode writes one object.
func (e Encoding) Encode(object core.Object) ([]byte, error) {
	if e == Protobuf {
		return core.Marshal(object)
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		return core.Marshal(u)
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode %T %s/%s: %w", object, object.GetNamespace(), object.GetName(), err)
	}
	return data, nil
}

func (e Encoding) encodeAll(objects []core.Object) ([][]byte, error) {
	var out [][]byte
	for _, object := range objects {
		data, err := e.Encode(object)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

func decodeAll(field string, all [][]byte) ([]core.Object, error) {
	var out []core.Object
	for i, data := range all {
		object, err := decode(data)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		out = append(out, object)
	}
	return out, nil
}

// decode reads one object of an answer.
func decode(data []byte) (core.Object, error) {
	if len(data) > maxObject {
		return nil, fmt.Errorf("an object of %d bytes is too large: it may have at most %d", len(data), maxObject)
	}
	return core.Unmarshal(data)
}

// Slot is one object on its way to a plugin. Without its object only what
// identifies it is sent.
func (e Encoding) slot(object core.Object, whole bool) (*Slot, error) {
	s := &Slot{Uid: string(object.GetUID()), ResourceVersion: object.GetResourceVersion()}
	if !whole {
		return s, nil
	}
	data, err := e.Encode(object)
	s.Object = data
	return s, err
}
