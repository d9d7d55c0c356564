package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// Kinds of records.
const (
	kindSet      = 's' // key, UID, object
	kindUnset    = 'u' // key, UID
	kindObserved = 'o' // key, UID, status
	kindGone     = 'g' // as kindObserved, of a pod that runs no more
	kindTerm     = 't' // the rest is a number
	kindWhole    = 'w' // what came before is a whole set
)

// record is one line of the ledger.
type record struct {
	kind byte
	key  core.Key
	uid  types.UID
	data []byte // an object in the storage encoding, or a status; or
	term uint64
}

// appendTo appends the record's encoding: the kind, and then each text with its
// length.
func (r *record) appendTo(b []byte) []byte {
	b = append(b, r.kind)
	switch r.kind {
	case kindTerm:
		return binary.AppendUvarint(b, r.term)
	case kindWhole:
		return b
	}
	for _, text := range [...]string{r.key.Group, r.key.Resource, r.key.Namespace, r.key.Name, string(r.uid)} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return append(b, r.data...)
}

var errRecord = errors.New("the record cannot be read")

// parseRecord is the inverse of appendTo. The record keeps part of b.
func parseRecord(b []byte) (record, error) {
	if len(b) == 0 {
		return record{}, errRecord
	}
	r := record{kind: b[0]}
	b = b[1:]
	switch r.kind {
	case kindWhole:
		return r, nil
	case kindTerm:
		term, n := binary.Uvarint(b)
		if n <= 0 || n != len(b) {
			return r, errRecord
		}
		r.term = term
		return r, nil
	case kindSet, kindUnset, kindObserved, kindGone:
	default:
		return r, fmt.Errorf("%w: its kind is %q", errRecord, r.kind)
	}
	var texts [5]string
	for i := range texts {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return r, errRecord
		}
		texts[i] = string(b[n : n+int(size)])
		b = b[n+int(size):]
	}
	r.key = core.Key{Group: texts[0], Resource: texts[1], Namespace: texts[2], Name: texts[3]}
	r.uid, r.data = types.UID(texts[4]), b
	return r, nil
}

// apply takes a record into the state.
func (s *State) apply(r *record) error {
	switch r.kind {
	case kindTerm:
		s.Term = r.term
	case kindWhole:
		s.Known = true
	case kindSet:
		object, err := core.Unmarshal(r.data)
		if err != nil {
			return fmt.Errorf("%s: %w", r.key, err)
		}
		if object.GetUID() != r.uid {
			return fmt.Errorf("%s: %w: its UID is %q and %q", r.key, errRecord, r.uid, object.GetUID())
		}
		s.set(r.key, object)
	case kindUnset:
		s.unset(r.key, r.uid)
	case kindObserved, kindGone:
		o := core.Observed{Key: r.key, UID: r.uid, Gone: r.kind == kindGone}
		if err := json.Unmarshal(r.data, &o.Status); err != nil {
			return fmt.Errorf("%s: status: %w", r.key, err)
		}
		s.observe(o)
	}
	return nil
}

func (s *State) set(key core.Key, object core.Object) {
	if old := s.Objects[key]; old != nil && old.GetUID() != object.GetUID() {
		delete(s.Observed, old.GetUID())
	}
	s.Objects[key] = object
}

func (s *State) unset(key core.Key, uid types.UID) {
	if old := s.Objects[key]; old == nil || old.GetUID() != uid {
		return // another of that name has come since
	}
	delete(s.Objects, key)
	delete(s.Observed, uid)
}

// observe keeps an observation of a pod that is desired; what is said of
// others is for the core alone.
func (s *State) observe(o core.Observed) bool {
	pod, ok := s.Objects[o.Key].(*corev1.Pod)
	if !ok || pod.UID != o.UID {
		return false
	}
	s.Observed[o.UID] = o
	return true
}
