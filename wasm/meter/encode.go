package meter

import "fmt"

// encode puts the rewritten module together.
func (w *rewriter) encode() ([]byte, error) {
	m := w.m
	out := make([]byte, 0, w.size())
	out = append(out, header...)
	out = section(out, secType, w.types())
	out = section(out, secImport, w.imports())
	out = section(out, secFunction, w.declarations())
	if len(m.tables) > 0 {
		tables, err := w.tables()
		if err != nil {
			return nil, err
		}
		out = section(out, secTable, tables)
	}
	out = section(out, secMemory, m.memories)
	globals := append(uleb(nil, uint32(m.numGlobals)+2), m.globals...)
	globals = append(globals, valueI64, 1, opI64Const, 0, opEnd)
	globals = sleb(append(globals, valueI64, 1, opI64Const), w.o.MaxStack)
	out = section(out, secGlobal, append(globals, opEnd))
	out = section(out, secExport, w.exports())
	if m.start != nil {
		out = section(out, secStart, uleb(nil, m.remap(*m.start)))
	}
	out = section(out, secElement, m.elements)
	out = section(out, secDataCount, m.dataCount)
	out = w.codeSection(out)
	out = section(out, secData, m.data)
	out = section(out, secCustom, append([]byte("\x04name"), w.names()...))
	return out, nil
}

// size is a guess that is mostly enough.
func (w *rewriter) size() int {
	n := len(w.m.types) + len(w.m.imports) + len(w.m.globals) + len(w.m.elements) + len(w.m.data) + len(w.m.name) + 4<<10
	for _, e := range w.m.exports {
		n += len(e.name) + 8
	}
	for _, b := range w.bodies {
		n += len(b) + 5
	}
	return n + 5*len(w.m.functions)
}

func section(out []byte, id byte, body []byte) []byte {
	if body == nil {
		return out
	}
	out = uleb(append(out, id), uint32(len(body)))
	return append(out, body...)
}

// types appends those of refill and of the helpers.
func (w *rewriter) types() []byte {
	out := append(uleb(nil, uint32(w.m.numTypes+5)), w.m.types...)
	out = append(out, 0x60, 0, 1, valueI64)
	out = append(out, 0x60, 0, 0)
	out = append(out, 0x60, 1, valueI32, 0)
	out = append(out, 0x60, 1, valueI32, 1, valueI32)
	return append(out, 0x60, 3, valueI32, valueI32, valueI32, 0)
}

func (w *rewriter) imports() []byte {
	out := append(uleb(nil, uint32(w.m.numImports)+1), w.m.imports...)
	out = append(append(out, byte(len(ImportModule))), ImportModule...)
	out = append(append(out, byte(len(ImportName))), ImportName...)
	return uleb(append(out, 0), uint32(w.m.numTypes))
}

// declarations are the types of the functions in their new order.
func (w *rewriter) declarations() []byte {
	f := w.m.functions
	n := len(f) + int(numHelpers)
	out := uleb(make([]byte, 0, 2*n+8), uint32(n))
	for _, t := range f[1:] {
		out = uleb(out, t)
	}
	out = uleb(out, f[0])
	for h := range numHelpers {
		out = uleb(out, uint32(w.m.numTypes)+[numHelpers]uint32{1, 1, 2, 3, 4, 4}[h])
	}
	return out
}

// tables bounds the tables: growth beyond fails.
func (w *rewriter) tables() ([]byte, error) {
	out := uleb(nil, uint32(len(w.m.tables)))
	total := uint64(0)
	for _, t := range w.m.tables {
		most := w.o.MaxTableEntries / uint32(len(w.m.tables))
		if total += uint64(t.size.least); total > uint64(w.o.MaxTableEntries) {
			return nil, fmt.Errorf("%w: tables of %d entries; at most %d are", ErrUnsupported, total, w.o.MaxTableEntries)
		}
		most = max(most, t.size.least)
		if t.size.bounded {
			if t.size.most < t.size.least {
				return nil, fmt.Errorf("%w: a table's minimum is above its maximum", ErrMalformed)
			}
			most = min(most, t.size.most)
		}
		out = uleb(append(out, t.kind, 1), t.size.least)
		out = uleb(out, most)
	}
	return out, nil
}

func (w *rewriter) exports() []byte {
	if len(w.m.exports) == 0 {
		return nil
	}
	out := uleb(nil, uint32(len(w.m.exports)))
	for _, e := range w.m.exports {
		out = append(uleb(out, uint32(len(e.name))), e.name...)
		index := e.index
		if e.kind == 0 {
			index = w.m.remap(index)
		}
		out = uleb(append(out, e.kind), index)
	}
	return out
}

func (w *rewriter) codeSection(out []byte) []byte {
	bodies := append(append([][]byte{}, w.bodies[1:]...), w.bodies[0])
	bodies = append(bodies, w.helpers()...)
	head := uleb(nil, uint32(len(bodies)))
	size := len(head)
	for _, b := range bodies {
		size += len(b) + len(uleb(nil, uint32(len(b))))
	}
	out = uleb(append(out, secCode), uint32(size))
	out = append(out, head...)
	for _, b := range bodies {
		out = append(uleb(out, uint32(len(b))), b...)
	}
	return out
}
