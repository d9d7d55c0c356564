package store

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// pipeline reads the records of a log from next to last in order, and decodes
// them in parallel.
type pipeline struct {
	codec      *codec
	name       string
	next, last uint64
	decoders   int         // how many work at once
	generation *generation // whose chunks they must be; nil for the WAL
}

// decoded is a record with its objects.
type decoded struct {
	header
	sequence uint64
	sum      uint32
	size     int
	items    []decodedItem
}

type decodedItem struct {
	kind     itemKind
	revision int64
	key      core.Key
	object   core.Object
	size     int
}

type job struct {
	record bus.Record
	result chan *decoded // holds the one result, so that no worker waits
	err    error         // set before result is closed
}

// run calls each with the decoded records in order. All its goroutines have
// ended when it returns. Errors name the record.
func (p *pipeline) run(ctx context.Context, records iter.Seq2[bus.Record, error], each func(*decoded) error) error {
	// Enough for all workers to be busy while the oldest record is applied,
	// and few enough to bound the memory.
	order, work := make(chan *job, 2*p.decoders), make(chan *job, 2*p.decoders)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		return p.read(ctx, records, order, work)
	})
	for range p.decoders {
		g.Go(func() error {
			for j := range work {
				d, err := p.decode(j.record)
				j.err = err
				if err == nil {
					j.result <- d
				}
				close(j.result)
			}
			return nil
		})
	}
	g.Go(func() error {
		for j := range order {
			d := <-j.result
			err := j.err
			if err == nil {
				err = each(d)
			}
			if err != nil {
				return fmt.Errorf("log %s: record %d: %w", p.name, j.record.Sequence, err)
			}
		}
		return nil
	})
	return g.Wait()
}

func (p *pipeline) read(ctx context.Context, records iter.Seq2[bus.Record, error], order, work chan<- *job) error {
	for record, err := range records {
		if err != nil {
			return fmt.Errorf("log %s: read record %d: %w", p.name, p.next, err)
		}
		if record.Sequence != p.next {
			return fmt.Errorf("log %s: %w: record %d is missing, record %d follows", p.name, ErrDamaged, p.next, record.Sequence)
		}
		if record.Sequence > p.last {
			return nil
		}
		j := &job{record: record, result: make(chan *decoded, 1)}
		for _, to := range [...]chan<- *job{work, order} {
			select {
			case to <- j:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		p.next++
		if record.Sequence == p.last {
			return nil
		}
	}
	return nil
}

func (p *pipeline) decode(record bus.Record) (*decoded, error) {
	h, body, err := p.codec.open(record.Data)
	if err != nil {
		return nil, err
	}
	d := &decoded{header: h, sequence: record.Sequence, sum: recordSum(record.Data), size: len(record.Data)}
	if p.generation != nil {
		if err := p.generation.checkChunk(h, record); err != nil {
			return nil, err
		}
	}
	// No more than the body can hold, whatever the header says.
	d.items = make([]decodedItem, 0, min(int(h.count), len(body)/6))
	err = decodeItems(h, body, func(it item) error {
		object, err := it.decode()
		if object != nil {
			p.codec.shared.object(object)
		}
		d.items = append(d.items, decodedItem{kind: it.kind, revision: it.revision, key: it.key, object: object, size: len(it.data)})
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// decode returns the item's object, if it has one.
func (it *item) decode() (core.Object, error) {
	if it.kind != itemObject {
		return nil, nil
	}
	object, err := core.Unmarshal(it.data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, it.key, err)
	}
	if key := core.KeyFor(it.key.GroupResource(), object); key != it.key {
		return nil, fmt.Errorf("%w: %s holds %s", ErrDamaged, it.key, key)
	}
	object.SetResourceVersion(core.FormatRevision(it.revision))
	return object, nil
}
