package meter

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// The parts of a name section.
const (
	namesModule    = 0
	namesFunctions = 1
)

type named struct {
	index uint32
	name  []byte
}

// names returns the content of the name section with functions renumbered: the
// names of the module, of functions, and of the helpers that are used. Of a section that is damaged only those
// of the helpers are left, for names are worth no error.
func (w *rewriter) names() []byte {
	out, functions := w.given()
	if functions == nil {
		functions = w.functionNames(&reader{b: []byte{0}})
	}
	return section(out, namesFunctions, functions)
}

// given returns the part of the module's name, and functions' names.
func (w *rewriter) given() (out, functions []byte) {
	r := reader{b: w.m.name}
	last := -1
	for r.more() {
		id := r.byte()
		part := reader{b: r.skip(r.u32())}
		if r.err != nil || int(id) <= last {
			return nil, nil
		}
		last = int(id)
		switch id {
		case namesModule:
			if name := part.skip(part.u32()); part.err != nil || part.more() || !utf8.Valid(name) {
				return nil, nil
			}
			out = section(out, id, part.b)
		case namesFunctions:
			if functions = w.functionNames(&part); part.err != nil {
				return nil, nil
			}
		}
	}
	return out, functions
}

func (w *rewriter) functionNames(r *reader) []byte {
	list := make([]named, 0, r.count()+int(numHelpers))
	for r.more() && len(list) < cap(list)-int(numHelpers) {
		f := r.u32()
		name := r.skip(r.u32())
		if f >= w.m.numFuncs() || !utf8.Valid(name) {
			r.fail(ErrMalformed, "a name of no function")
			return nil
		}
		list = append(list, named{w.m.remap(f), name})
	}
	for h := range numHelpers {
		if !w.used[h] {
			continue
		}
		list = append(list, named{w.m.numFuncs() + 1 + uint32(h), []byte(helperName(h))})
	}
	slices.SortStableFunc(list, func(a, b named) int { return int(a.index) - int(b.index) })
	list = slices.CompactFunc(list, func(a, b named) bool { return a.index == b.index })
	out := uleb(make([]byte, 0, len(r.b)+64), uint32(len(list)))
	for _, n := range list {
		out = append(uleb(uleb(out, n.index), uint32(len(n.name))), bytes.ToValidUTF8(n.name, nil)...)
	}
	return out
}
