package meter

// graph is who calls whom directly, tail calls included, among the functions
// that a module defines. f calls callees[first[f]:first[f+1]], each of them at as many
// places as times says.
type graph struct {
	first   []int
	callees []uint32
	times   []int

	order  []uint32 // callees before callers, but for those that close a cycle
	place  []int    // of each function in order
	cyclic []bool   // it is part of a cycle
	cycle  []int    // functions of the same number can reach each other
	size   []int    // how many functions have that number
}

func (g *graph) of(f uint32) []uint32 { return g.callees[g.first[f]:g.first[f+1]] }

// closes reports that a call of g by f leads back in the order. Every cycle has
// such a call.
func (g *graph) closes(f, callee uint32) bool { return g.place[callee] >= g.place[f] }

// visit is a function whose callees are being searched.
type visit struct {
	f    uint32
	next int
}

// search is the state of sort. Functions are numbered as they are met, from 1;
// low is the lowest number of those that one can reach and that are on path.
type search struct {
	number, low []int
	met         int
	stack       []visit
	path        []uint32 // met, and of a cycle whose first function is not done
	onPath      []bool
}

// sort searches the graph depth first, without recursion, for chains of calls
// are as long as a module wants, and finds its cycles as Tarjan does.
func (g *graph) sort() {
	n := len(g.first) - 1
	g.order, g.place = make([]uint32, 0, n), make([]int, n)
	g.cyclic, g.cycle, g.size = make([]bool, n), make([]int, n), make([]int, n)
	s := &search{number: make([]int, n), low: make([]int, n), onPath: make([]bool, n)}
	for root := range n {
		if s.number[root] != 0 {
			continue
		}
		s.enter(g, uint32(root))
		for len(s.stack) > 0 {
			top := &s.stack[len(s.stack)-1]
			if top.next == g.first[top.f+1] {
				s.leave(g)
				continue
			}
			callee := g.callees[top.next]
			top.next++
			switch {
			case s.number[callee] == 0:
				s.enter(g, callee)
			case s.onPath[callee]:
				s.low[top.f] = min(s.low[top.f], s.number[callee])
				g.cyclic[top.f] = g.cyclic[top.f] || callee == top.f
			}
		}
	}
}

func (s *search) enter(g *graph, f uint32) {
	s.met++
	s.number[f], s.low[f], s.onPath[f] = s.met, s.met, true
	s.path = append(s.path, f)
	s.stack = append(s.stack, visit{f, g.first[f]})
}

func (s *search) leave(g *graph) {
	f := s.stack[len(s.stack)-1].f
	s.stack = s.stack[:len(s.stack)-1]
	g.place[f] = len(g.order)
	g.order = append(g.order, f)
	if n := len(s.stack); n > 0 {
		caller := s.stack[n-1].f
		s.low[caller] = min(s.low[caller], s.low[f])
	}
	if s.low[f] != s.number[f] {
		return
	}
	for n := len(s.path) - 1; ; n-- {
		of := s.path[n]
		s.onPath[of] = false
		g.cycle[of] = int(f)
		g.size[f]++
		g.cyclic[of] = g.cyclic[of] || of != f
		if of == f {
			g.cyclic[f] = g.cyclic[f] || len(s.path)-n > 1
			s.path = s.path[:n]
			return
		}
	}
}
