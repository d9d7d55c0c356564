package wire

import (
	"container/list"
	"fmt"
	"sync"

	"github.com/weftrun/weft/core"
)

// MissingError says that a slot named an object that is not held.
type MissingError struct{ UID string }

func (e *MissingError) Error() string { return fmt.Sprintf("object %s is not held", e.UID) }

// Cache holds the decoded objects that a plugin process was sent, by UID, the
// newest version of each, up to a number of bytes. It may be used
// concurrently; its objects are shared and immutable.
type Cache struct {
	limit int

	mu    sync.Mutex
	bytes int
	held  map[string]*list.Element
	order *list.List // of *entry, the most recently used first
}

type entry struct {
	uid, version string
	object       core.Object
	size         int
}

// NewCache returns a cache of at most limit bytes, counted as they were sent.
func NewCache(limit int) *Cache {
	return &Cache{limit: limit, held: map[string]*list.Element{}, order: list.New()}
}

// Resolve returns the object of a slot: the one in it, which is then held, or
// the one held, or a *MissingError.
func (c *Cache) Resolve(s *Slot) (core.Object, error) {
	if s == nil {
		return nil, fmt.Errorf("an object is wanted, there is none")
	}
	if len(s.GetObject()) == 0 {
		return c.get(s)
	}
	object, err := core.Unmarshal(s.GetObject())
	if err != nil {
		return nil, err
	}
	if s.GetUid() != "" && s.GetResourceVersion() != "" {
		c.put(&entry{uid: s.GetUid(), version: s.GetResourceVersion(), object: object, size: len(s.GetObject())})
	}
	return object, nil
}

func (c *Cache) get(s *Slot) (core.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.held[s.GetUid()]
	if !ok || element.Value.(*entry).version != s.GetResourceVersion() {
		return nil, &MissingError{UID: s.GetUid()}
	}
	c.order.MoveToFront(element)
	return element.Value.(*entry).object, nil
}

func (c *Cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.held[e.uid]; ok {
		c.remove(old)
	}
	c.held[e.uid] = c.order.PushFront(e)
	c.bytes += e.size
	for c.bytes > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *Cache) remove(element *list.Element) {
	e := c.order.Remove(element).(*entry)
	delete(c.held, e.uid)
	c.bytes -= e.size
}
