package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	prefix  = "weft.v1.event."
	silence = 3 * time.Minute // without a word about a namespace: ask
)

// event is a CloudEvent: a change, or a bookmark.
type event struct {
	Type     string `json:"type"`
	Subject  string `json:"subject"` // group/resource/namespace/name; a bookmark has no name
	Revision uint64 `json:"weftrevision,string"`
	Previous uint64 `json:"weftprevious,string"` // of a change
	Through  uint64 `json:"weftthrough,string"`  // of a bookmark
	Data     struct {
		Type   string          `json:"type"` // ADDED, MODIFIED or DELETED
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

// pair is what revisions are compared within: a resource in a namespace.
type pair struct{ group, resource, namespace string }

func (p pair) String() string { return p.group + "/" + p.resource + "/" + p.namespace }

// subscriber follows changes. It belongs to the goroutine that calls run.
type subscriber struct {
	name    string
	pattern string
	tokens  [3]string // of the pattern: group, resource, namespace
	out     io.Writer
	drop    int // if not 0, each message of that number is ignored

	nc        *nats.Conn
	mended    chan struct{} // has an element after a reconnect
	start     uint64        // everything before was listed
	positions map[pair]uint64
	heard     map[pair]time.Time
	received  int
}

func newSubscriber(name, pattern string, out io.Writer) (*subscriber, error) {
	s := &subscriber{name: name, pattern: pattern, out: out, tokens: [3]string{"*", "*", "*"},
		mended: make(chan struct{}, 1), positions: map[pair]uint64{}, heard: map[pair]time.Time{}}
	rest, ok := strings.CutPrefix(pattern, prefix)
	tokens := strings.Split(rest, ".")
	last := tokens[len(tokens)-1]
	if !ok || len(tokens) > 4 || last != ">" && (len(tokens) < 4 || last != "*") {
		return nil, fmt.Errorf("pattern %q: it must be %s<group>.<resource>.<namespace>.* with * for any of them, or end in >: "+
			"each number before counts all changes of a resource in a namespace", pattern, prefix)
	}
	for i, t := range tokens[:min(len(tokens), 3)] {
		if t != ">" {
			s.tokens[i] = t
		}
	}
	return s, nil
}

func (s *subscriber) run(ctx context.Context, url string, credentials nats.Option) error {
	nc, err := nats.Connect(url, credentials, nats.MaxReconnects(-1),
		// The only place where an observer may receive replies.
		nats.CustomInboxPrefix("_INBOX.observer."+s.name),
		nats.ReconnectHandler(func(*nats.Conn) {
			select {
			case s.mended <- struct{}{}:
			default: // it has one
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrSlowConsumer) { // that is a gap, which is mended
				s.say("ERROR     %v", err)
			}
		}))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", url, err)
	}
	defer nc.Close()
	s.nc = nc
	// Subscribe first and list then, so that nothing falls between.
	messages := make(chan *nats.Msg, 64<<10) // what may wait while we ask; more is a gap
	if _, err := nc.ChanSubscribe(s.pattern, messages); err != nil {
		return fmt.Errorf("subscribe to %s: %w", s.pattern, err)
	}
	if err := s.listAll(ctx); err != nil {
		return err
	}
	return s.loop(ctx, messages)
}

func (s *subscriber) loop(ctx context.Context, messages <-chan *nats.Msg) error {
	tick := time.NewTicker(silence / 12)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			err = s.receive(ctx, m)
		case <-s.mended:
			err = s.resumeSilent(ctx, 0)
		case <-tick.C:
			err = s.resumeSilent(ctx, silence)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (s *subscriber) receive(ctx context.Context, m *nats.Msg) error {
	s.received++
	if s.drop > 0 && s.received%s.drop == 0 {
		return nil
	}
	var e event
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return fmt.Errorf("read message on %s: %w", m.Subject, err)
	}
	p := pairOf(&e)
	at := s.position(p)
	s.heard[p] = time.Now()
	switch bookmark := e.Data.Type == ""; {
	case bookmark && e.Revision > at, !bookmark && e.Previous > at:
		s.say("GAP       %s: seen up to %d, but there were changes after", p, at)
		return s.resume(ctx, p)
	case bookmark:
		s.positions[p] = max(at, e.Through)
	case e.Revision > at: // else it is old
		s.positions[p] = e.Revision
		s.print(&e)
	}
	return nil
}

func pairOf(e *event) pair {
	t := strings.Split(e.Subject, "/")
	for len(t) < 3 {
		t = append(t, "")
	}
	return pair{t[0], t[1], t[2]}
}

// position is up to where everything of a pair was seen: by itself, with its
// whole resource, or with the whole cluster.
func (s *subscriber) position(p pair) uint64 {
	return max(s.positions[p], s.positions[pair{p.group, p.resource, ""}], s.start)
}

// say prints a line; who reads it no longer has ended us.
func (s *subscriber) say(format string, a ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", a...) }

func (s *subscriber) print(e *event) {
	s.say("%-9s %s at %d, %d bytes", e.Data.Type, e.Subject, e.Revision, len(e.Data.Object))
}

// resumeSilent asks for what came in namespaces of which nothing was heard for
// so long.
func (s *subscriber) resumeSilent(ctx context.Context, long time.Duration) error {
	for p, when := range s.heard {
		if time.Since(when) < long {
			continue
		}
		s.heard[p] = time.Now()
		if err := s.resume(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// resume asks for what came after the position, or lists again.
func (s *subscriber) resume(ctx context.Context, p pair) error {
	for from := s.position(p); ; {
		var r struct {
			Events   []event `json:"events"`
			Revision uint64  `json:"revision,string"`
			More     bool    `json:"more"`
		}
		err := s.ask(ctx, "resume", map[string]any{
			"group": p.group, "resource": p.resource, "namespace": p.namespace, "from": fmt.Sprint(from),
		}, &r)
		var refused *refusal
		if errors.As(err, &refused) && refused.Code == 410 { // it is no longer kept
			return s.list(ctx, p)
		}
		if errors.As(err, &refused) && refused.Code == 404 { // the kind is gone
			delete(s.heard, p)
			return nil
		}
		if err != nil {
			return err
		}
		for i := range r.Events {
			e := &r.Events[i]
			if of := pairOf(e); e.Revision > s.position(of) { // else it is old
				s.positions[of] = e.Revision
				s.print(e)
			}
		}
		if from = r.Revision; !r.More {
			s.positions[p] = max(s.positions[p], from)
			return nil
		}
	}
}

// listAll lists what the pattern covers.
func (s *subscriber) listAll(ctx context.Context) error {
	var kinds struct {
		Items []struct {
			Group, Resource    string
			Namespaced, Events bool
		} `json:"items"`
	}
	if err := s.ask(ctx, "kinds", nil, &kinds); err != nil {
		return err
	}
	fits := func(token, name string) bool {
		return token == "*" || token == strings.ReplaceAll(name, ".", "%2E")
	}
	for _, k := range kinds.Items {
		if !k.Events || !fits(s.tokens[0], k.Group) || !fits(s.tokens[1], k.Resource) {
			continue
		}
		p := pair{k.Group, k.Resource, "_"} // in no namespace
		if k.Namespaced {
			p.namespace = strings.TrimSuffix(s.tokens[2], "*") // "" lists all
		} else if !fits(s.tokens[2], "_") {
			continue
		}
		if err := s.list(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// list reads all objects, page by page, and takes the first page's revision
// for the position: what changes while we read comes as events.
func (s *subscriber) list(ctx context.Context, p pair) error {
	count, next := 0, ""
	for {
		var page struct {
			Items    []json.RawMessage `json:"items"`
			Revision uint64            `json:"revision,string"`
			Continue string            `json:"continue"`
		}
		request := map[string]any{"group": p.group, "resource": p.resource, "namespace": p.namespace, "continue": next}
		if err := s.ask(ctx, "list", request, &page); err != nil {
			return err
		}
		count += len(page.Items)
		if next = page.Continue; next != "" {
			continue
		}
		if s.start == 0 {
			s.start = page.Revision
		}
		s.positions[p], s.heard[p] = page.Revision, time.Now()
		s.say("LISTED    %s: %d objects at %d", p, count, page.Revision)
		return nil
	}
}

// refusal is what a core answers instead.
type refusal struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Code, r.Reason, r.Message) }

// ask sends a request until a core answers: one may be on its way to lead.
func (s *subscriber) ask(ctx context.Context, method string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	for {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		m, err := s.nc.RequestWithContext(within, "weft.v1.api.observer."+s.name+"."+method, data)
		cancel()
		switch {
		case err == nil && m.Header.Get("Weft-Error") == "":
			return json.Unmarshal(m.Data, answer)
		case err == nil:
			r := &refusal{}
			if json.Unmarshal(m.Data, r) != nil {
				return fmt.Errorf("%s: %s", method, m.Data)
			}
			if r.Code != 429 && r.Code < 500 {
				return fmt.Errorf("%s %s: %w", method, data, r)
			}
			s.say("WAITING   %v", r)
		case ctx.Err() != nil || s.nc.IsClosed():
			return err
		default:
			s.say("WAITING   %v", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
