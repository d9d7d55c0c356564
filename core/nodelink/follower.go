package nodelink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// follower applies messages about desired state in their order, and pulls the
// whole set when one is missing.
type follower struct {
	link *Link
	sink core.DesiredSink

	mu      sync.Mutex
	waiting []*desired // received and not yet applied

	wake chan struct{} // one is enough: there are messages, or a pull is due

	// The rest belongs to run.
	synced  bool
	doubted bool      // a core of a lower term has spoken
	asked   time.Time // when the core was last asked because of that
	term    uint64
	reached uint64
	digest  digest
	held    map[core.Key]heldItem
}

type heldItem struct {
	uid     types.UID
	version uint64
}

// waitingMax bounds the messages kept while a pull is under way; when it is
// exceeded another pull is made.
const waitingMax = 10_000

func newFollower(l *Link, since uint64, sink core.DesiredSink) *follower {
	f := &follower{link: l, sink: sink, term: since, wake: make(chan struct{}, 1), held: map[core.Key]heldItem{}}
	l.mu.Lock()
	admitted := l.admitted
	l.mu.Unlock()
	f.believe(admitted)
	f.term = max(f.term, admitted)
	return f
}

// believe takes over the term of a core that has proved to lead, even if it is
// lower: its state is then that of a backup, where terms begin anew.
func (f *follower) believe(term uint64) {
	if term >= f.term {
		return
	}
	f.link.log.Warn("the core that leads is of a lower term than this node has seen, as after a restore: it is believed", "term", term, "seen", f.term)
	f.term, f.synced = term, false
}

// ask settles a doubt about who leads.
func (f *follower) ask(ctx context.Context) error {
	if !f.doubted || time.Since(f.asked) < doubtEvery {
		return nil
	}
	f.doubted, f.asked = false, time.Now()
	term, err := f.link.registerAgain(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	f.believe(term)
	return nil
}

func (f *follower) receive(m bus.Message) {
	d, err := parseDesired(m)
	if err != nil {
		f.link.log.Warn("message about desired state cannot be read", "subject", m.Subject, "err", err)
		return // its number is missing, so the set is pulled
	}
	f.mu.Lock()
	if len(f.waiting) < waitingMax {
		f.waiting = append(f.waiting, d)
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := f.ask(ctx); err != nil {
			return err
		}
		if err := f.sync(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := f.apply(); err != nil {
			return err
		}
		if f.synced && !f.doubted {
			select {
			case <-ctx.Done():
			case <-f.wake:
			}
			continue
		}
		f.rest(ctx, pullDelay) // a gap: what filled it may still be on its way
	}
	return nil
}

// sync pulls the whole set if something is missing, unless it turns out that
// whom it would come from is not to be believed.
func (f *follower) sync(ctx context.Context) error {
	if f.synced {
		return nil
	}
	err := f.link.persist(ctx, func() error { return f.pull(ctx) })
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, errUnknown):
		f.doubted = true
		f.rest(ctx, retryLast)
		return nil
	}
	return err
}

func (f *follower) rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// apply takes what was received, until a number is missing.
func (f *follower) apply() error {
	f.mu.Lock()
	waiting := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	for _, d := range waiting {
		switch {
		case d.term < f.term: // a core that leads no more, or one of a restored state
			f.doubted = true
		case d.action == actionDismiss:
			err := f.link.dismissed(d.epoch)
			if errors.Is(err, errUnknown) {
				f.doubted = true
			} else if err != nil {
				return err
			}
		case d.term == f.term && d.sequence <= f.reached: // what the pull brought already
		case d.term > f.term, d.action == actionMark, d.sequence != f.reached+1:
			f.synced = false
		default:
			f.one(d)
		}
	}
	f.link.held(f.term, f.reached, f.digest)
	return nil
}

func (f *follower) one(d *desired) {
	f.reached = d.sequence
	old := f.held[d.key]
	f.digest -= digest(old.version)
	if d.action == actionUnset {
		delete(f.held, d.key)
		f.sink.Unset(d.key, d.uid)
		return
	}
	f.digest += digest(d.version)
	f.held[d.key] = heldItem{d.uid, d.version}
	f.sink.Set(d.key, d.object)
}

// pull replaces everything by the whole set.
func (f *follower) pull(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	l := f.link
	b, err := l.connection(ctx)
	if err != nil {
		return fmt.Errorf("pull desired state: %w", err)
	}
	stream, err := b.Open(ctx, bus.Message{Subject: bus.APISubject(l.who, methodSync)})
	if err != nil {
		return fmt.Errorf("pull desired state: %w", err)
	}
	defer func() { _ = stream.Close() }() // everything has been read, or is not wanted
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	objects := map[core.Key]core.Object{}
	held := map[core.Key]heldItem{}
	var sum digest
	for r := bufio.NewReader(stream); ; {
		part, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("pull desired state: %w", err)
		}
		if part.Last {
			if part.Term < f.term {
				return fmt.Errorf("pull desired state: the core's term is %d, %d was seen: %w", part.Term, f.term, errUnknown)
			}
			f.term, f.reached = part.Term, part.Sequence
			break
		}
		if len(part.Object) > 0 {
			if objects[part.Key], err = core.Unmarshal(part.Object); err != nil {
				return fmt.Errorf("pull desired state: %s: %w", part.Key, err)
			}
		}
		held[part.Key] = heldItem{part.UID, part.Version}
		sum += digest(part.Version)
	}
	f.held, f.digest, f.synced = held, sum, true
	f.sink.Reset(f.term, objects)
	return nil
}
