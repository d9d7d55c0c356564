package workloads

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/weftrun/weft/core"
)

// notesPerReason bounds the events that one decision records for one reason:
// a ReplicaSet of thousands would otherwise write as many events as pods.
// Kubernetes' recorder drops what exceeds a burst of 25.
const notesPerReason = 20

// Notes collects the events of one decision. The zero Notes is ready for use.
// Of each reason the first 20 are kept singly; the rest become one note that
// says how many there were and quotes the last.
type Notes struct {
	kept []core.Note
	over []overflow
	seen map[string]int
}

type overflow struct {
	note  core.Note
	count int
}

// Normal records what went as it should.
func (n *Notes) Normal(reason, format string, args ...any) {
	n.add(corev1.EventTypeNormal, reason, format, args)
}

// Warning records what a person should look at.
func (n *Notes) Warning(reason, format string, args ...any) {
	n.add(corev1.EventTypeWarning, reason, format, args)
}

func (n *Notes) add(kind, reason, format string, args []any) {
	if n.seen == nil {
		n.seen = make(map[string]int)
	}
	n.seen[reason]++
	note := core.Note{Type: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if n.seen[reason] <= notesPerReason {
		n.kept = append(n.kept, note)
		return
	}
	for i := range n.over {
		if n.over[i].note.Reason == reason {
			n.over[i] = overflow{note: note, count: n.over[i].count + 1}
			return
		}
	}
	n.over = append(n.over, overflow{note: note, count: 1})
}

// List returns the notes in the order they were made.
func (n *Notes) List() []core.Note {
	list := n.kept
	for _, o := range n.over {
		o.note.Message = fmt.Sprintf("(combined from %d similar events): %s", o.count, o.note.Message)
		list = append(list, o.note)
	}
	return list
}

// Failures records FailedCreate and FailedDelete events, as Kubernetes' pod
// control does, for what was refused of the last decision.
func (n *Notes) Failures(failures []core.Failure) {
	for _, f := range failures {
		switch f.Verb {
		case "create":
			n.Warning("FailedCreate", "Error creating: %s", f.Message)
		case "delete":
			n.Warning("FailedDelete", "Error deleting: %s", f.Message)
		}
	}
}
