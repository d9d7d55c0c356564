package executor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/process"
)

// processName is what usages call this process.
const processName = "executor"

// usages is what the runtime's instances and this process use, encoded.
func (s *server) usages(ctx context.Context) ([]byte, error) {
	u, err := s.rt.Usages(ctx)
	if err != nil {
		return nil, err
	}
	u.Processes = append(u.Processes, process.Used(processName))
	return appendUsages(make([]byte, 0, 64*(1+len(u.Instances))), u), nil // most are some 60 bytes
}

// Usages implements wasm.Runtime.
func (c *Client) Usages(ctx context.Context) (wasm.Usages, error) {
	s, err := c.present(ctx)
	if err != nil {
		return wasm.Usages{}, err
	}
	reply, err := s.call(ctx, &message{Op: opUsages}, nil)
	if err != nil {
		return wasm.Usages{}, err
	}
	u, err := parseUsages(reply.Usages)
	if err != nil {
		return wasm.Usages{}, fmt.Errorf("usages: the executor answered nonsense: %w", err)
	}
	return u, nil
}

// numbers is how many numbers stand in each entry of usages. A newer executor
// may add to them; what is not known is passed over.
const numbers = 4

// maxUsages bounds the instances of one answer: what is decoded is larger than
// what came.
const maxUsages = 200_000

// appendUsages encodes usages compactly, since there may be tens of thousands:
// the time; how many numbers an entry has; how many processes there are and
// those; instances up to the end. An entry is a name (an instance's sandbox and
// ID; no sandbox is that of the entry before) and its numbers. Times are in
// nanoseconds since 1970, everything is a varint.
func appendUsages(b []byte, u wasm.Usages) []byte {
	b = binary.AppendVarint(b, u.Time.UnixNano())
	b = binary.AppendUvarint(b, numbers)
	b = binary.AppendUvarint(b, uint64(len(u.Processes)))
	for i := range u.Processes {
		p := &u.Processes[i]
		b = appendEntry(appendText(b, p.Name), p.StartedAt, p.Usage)
	}
	last := ""
	for i := range u.Instances {
		n := &u.Instances[i]
		sandbox := n.Sandbox
		if sandbox == last {
			sandbox = ""
		}
		last = n.Sandbox
		b = appendEntry(appendText(appendText(b, sandbox), n.ID), n.StartedAt, n.Usage)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendEntry(b []byte, started time.Time, u wasm.Usage) []byte {
	for _, n := range [numbers]int64{started.UnixNano(), int64(u.CPU), u.MemoryBytes, int64(u.Throttled)} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

var errShort = errors.New("it is cut off, or a number is too large")

// parseUsages decodes what appendUsages has encoded. What is negative cannot
// be, and is an error.
func parseUsages(b []byte) (wasm.Usages, error) {
	r := usageReader{rest: b}
	u := wasm.Usages{Time: time.Unix(0, r.number())}
	each, processes := r.count(), r.count()
	if r.failed == nil && each < numbers {
		return wasm.Usages{}, fmt.Errorf("%d numbers an entry, at least %d are wanted", each, numbers)
	}
	for range processes {
		p := wasm.ProcessUsage{Name: r.text()}
		p.StartedAt, p.Usage = r.entry(each)
		if r.failed != nil {
			break
		}
		u.Processes = append(u.Processes, p)
	}
	last := ""
	for r.failed == nil && len(r.rest) > 0 {
		i := wasm.InstanceUsage{Sandbox: r.text(), ID: r.text()}
		if i.Sandbox == "" {
			i.Sandbox = last
		}
		last = i.Sandbox
		i.StartedAt, i.Usage = r.entry(each)
		switch {
		case i.Sandbox == "":
			r.fail(errors.New("an instance without a sandbox"))
		case len(u.Instances) == maxUsages:
			r.fail(fmt.Errorf("more than %d instances", maxUsages))
		}
		u.Instances = append(u.Instances, i)
	}
	if r.failed != nil {
		return wasm.Usages{}, r.failed
	}
	return u, nil
}

// usageReader reads until it fails once; what it returns after that is empty.
type usageReader struct {
	rest   []byte
	failed error
}

func (r *usageReader) number() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 || r.failed != nil {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// count reads how many there are of what takes a byte each at least.
func (r *usageReader) count() int {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || r.failed != nil || n > uint64(len(r.rest)-size) {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *usageReader) text() string {
	n := r.count()
	if r.failed != nil {
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

func (r *usageReader) entry(each int) (time.Time, wasm.Usage) {
	started := time.Unix(0, r.number())
	u := wasm.Usage{CPU: time.Duration(r.number()), MemoryBytes: r.number(), Throttled: time.Duration(r.number())}
	for i := numbers; i < each && r.failed == nil; i++ {
		r.number()
	}
	if u.CPU < 0 || u.MemoryBytes < 0 || u.Throttled < 0 {
		r.fail(errors.New("a negative number"))
	}
	return started, u
}

func (r *usageReader) fail(err error) {
	if r.failed == nil {
		r.failed = err
	}
}
