package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// commit is the ops of one call on their way to the log.
type commit struct {
	changes []change
	objects []core.Object // what the call returns
	size    int           // of what goes to the log, in bytes
	weight  int           // about what it costs in memory, in bytes
	durable bool          // it waits for the log

	done chan struct{}
	err  error // set before done is closed
}

// change is one op. What comes after data is set when it is checked.
type change struct {
	key        core.Key
	object     core.Object // nil deletes
	expect     int64
	durability core.Durability
	data       []byte // the object's encoding; of volatile ones nil
	size       int    // of the encoding

	revision int64
	old      *entry // the state before; nil if there was none
	entry    *entry // the state after; nil if deleted
}

func (c *commit) finish(err error) {
	c.err = err
	close(c.done)
}

// Commit implements core.Store. It returns once the ops are in the log and
// visible; volatile and lazy ops alone wait only for what was committed before
// them. When ctx ends first, the ops may still happen, and the error is a
// Timeout. While too much waits for the log, it is TooManyRequests. The keys of ops must differ.
func (s *Store) Commit(ctx context.Context, epoch uint64, ops []core.Op) ([]core.Object, error) {
	if len(ops) == 0 {
		return nil, s.ended()
	}
	c, err := s.prepare(ops)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := s.enqueue(c, epoch); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if why := s.log.refusal.Load(); why != nil {
			return nil, unknownOutcome(*why)
		}
		return nil, unknownOutcome(context.Cause(ctx))
	}
	if c.err != nil {
		return nil, c.err
	}
	s.config.Committed(ops[0], time.Since(begin))
	return c.objects, nil
}

// prepare does all that needs no lock: above all the encoding.
func (s *Store) prepare(ops []core.Op) (*commit, error) {
	c := &commit{
		changes: make([]change, len(ops)),
		objects: make([]core.Object, len(ops)),
		done:    make(chan struct{}),
	}
	total := 0
	for i, op := range ops {
		ch := &c.changes[i]
		*ch = change{key: op.Key, object: op.Object, expect: op.Expect, durability: s.config.Durability(op.Key.GroupResource())}
		if err := ch.encode(); err != nil {
			return nil, err
		}
		total += ch.size
		if ch.durability != core.Volatile {
			c.size += len(ch.data) + len(op.Key.Resource) + len(op.Key.Namespace) + len(op.Key.Name) + 32
		}
		c.durable = c.durable || ch.durability == core.Durable
		c.objects[i] = op.Object
	}
	if total = max(total, c.size); total > MaxCommitSize {
		return nil, tooLarge(fmt.Sprintf("the commit of %d objects", len(ops)), total, MaxCommitSize)
	}
	c.weight = total + 512*len(ops)
	return c, checkDistinct(ops)
}

// encode checks the object and encodes it without its resourceVersion, which
// is known only when the expectation has been checked.
func (ch *change) encode() error {
	if err := checkKey(ch.key); err != nil {
		return err
	}
	if ch.object == nil {
		if ch.expect == 0 {
			return apierrors.NewBadRequest(fmt.Sprintf("delete %s: the resourceVersion to delete is required", ch.key))
		}
		return nil
	}
	if o := core.KeyFor(ch.key.GroupResource(), ch.object); o != ch.key {
		return apierrors.NewBadRequest(fmt.Sprintf("keep %s: the object calls itself %s", ch.key, o))
	}
	ch.object.SetResourceVersion("")
	sized, ok := ch.object.(interface{ Size() int })
	if ok && ch.durability == core.Volatile {
		ch.size = sized.Size()
	} else {
		data, err := core.Marshal(ch.object)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		ch.data, ch.size = data, len(data)
	}
	if ch.size > MaxObjectSize {
		return tooLarge(ch.key.String(), ch.size, MaxObjectSize)
	}
	return nil
}

func checkKey(key core.Key) error {
	if key.Resource == "" || key.Name == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("keep %s: resource and name are required", key))
	}
	for _, part := range [...]string{key.Group, key.Resource, key.Namespace, key.Name} {
		if len(part) > maxNameSize {
			return apierrors.NewBadRequest(fmt.Sprintf("keep %.80s: a name of %d bytes, at most %d are allowed", key, len(part), maxNameSize))
		}
		if strings.IndexByte(part, 0) >= 0 {
			return apierrors.NewBadRequest(fmt.Sprintf("keep %q: a name must not contain a zero byte", key))
		}
	}
	return nil
}

func checkDistinct(ops []core.Op) error {
	if len(ops) == 1 {
		return nil
	}
	seen := make(map[core.Key]struct{}, len(ops))
	for _, op := range ops {
		if _, twice := seen[op.Key]; twice {
			return apierrors.NewBadRequest(fmt.Sprintf("commit: %s is changed twice", op.Key))
		}
		seen[op.Key] = struct{}{}
	}
	return nil
}

// enqueue checks the expectations and, if all are met, gives each change its
// revision and queues the commit.
func (s *Store) enqueue(c *commit, epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return unavailable(s.err)
	}
	if s.closing {
		return unavailable(errStopped)
	}
	if s.epoch.Load() != epoch {
		return unavailable(errRefused)
	}
	if why := s.log.refusal.Load(); why != nil {
		return refusedByLog(*why) // it is not sent after one that may wait for long
	}
	if s.waiting > 0 && s.waiting+c.weight > maxWaiting {
		return overloaded(s.waiting)
	}
	for i := range c.changes {
		ch := &c.changes[i]
		t := s.latest(ch.key)
		if err := ch.check(t); err != nil {
			return err
		}
		ch.old = t.entry
	}
	s.assign(c)
	s.pending.push(c)
	s.newest = c
	s.waiting += c.weight
	s.poke()
	return nil
}

func (ch *change) check(t tentative) error {
	switch {
	case t.entry == nil && ch.expect == 0, t.entry != nil && t.revision == ch.expect:
		return nil
	case t.entry == nil:
		return apierrors.NewNotFound(ch.key.GroupResource(), ch.key.Name)
	case ch.expect == 0:
		return apierrors.NewAlreadyExists(ch.key.GroupResource(), ch.key.Name)
	default:
		return conflict(ch.key)
	}
}

// assign gives each change its revision; s.mu is held.
func (s *Store) assign(c *commit) {
	// Recovery must be sure to jump over every revision that was shown.
	if s.revision+int64(len(c.changes)) > s.logged+s.config.jump {
		c.durable = true
	}
	for i := range c.changes {
		ch := &c.changes[i]
		s.revision++
		ch.revision = s.revision
		if ch.object != nil {
			ch.object.SetResourceVersion(core.FormatRevision(ch.revision))
			ch.entry = newEntry(ch.key, ch.object, ch.revision, ch.size, ch.old)
		}
		s.overlay[ch.key] = tentative{entry: ch.entry, revision: ch.revision}
	}
}

// poke tells the committer that there is something to do.
func (s *Store) poke() {
	select {
	case s.nudge <- struct{}{}:
	default: // it knows
	}
}
