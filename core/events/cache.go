package events

// cache is a map of bounded size that forgets in two generations: what was
// not used while the younger one filled up is forgotten. It is not concurrent.
type cache[K comparable, V any] struct {
	limit      int
	young, old map[K]V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, young: map[K]V{}}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if len(c.young) >= c.limit/2 {
		if _, ok := c.young[k]; !ok {
			c.old, c.young = c.young, make(map[K]V, c.limit/2)
		}
	}
	c.young[k] = v
}
