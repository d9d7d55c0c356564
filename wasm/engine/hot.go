package engine

// Hot returns how many guests compute now or wait for a slot to do so. It may
// be called concurrently.
func (e *Engine) Hot() int {
	e.turns.mu.Lock()
	defer e.turns.mu.Unlock()
	return e.turns.taken + len(e.turns.waiting)
}
