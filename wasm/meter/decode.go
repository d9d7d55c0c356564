package meter

import "bytes"

// The sections, as the binary format numbers them.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

type limits struct {
	least, most uint32
	bounded     bool
}

type table struct {
	kind byte
	size limits
}

// export is one entry of the export section; name is a part of the input.
type export struct {
	name  []byte
	kind  byte
	index uint32
}

// module is what of a module the pass needs. Slices are parts of the input.
// Sections that it holds as bytes pass unchanged.
type module struct {
	types, imports        []byte   // entries without their number
	inRegisters           []bool   // for each type: the engine needs no stack to pass its values
	params                []uint32 // for each type: how many
	arity                 []int64  // for each type: parameters and results
	results               []byte   // for each type: the type of a block with the results, 0 if they are several
	importTypes           []uint32 // types of the imported functions
	numTypes, numImports  int
	importedFuncs         uint32
	importedGlobals       int
	functions             []uint32 // types of those defined
	tables                []table
	memories              []byte // nil: none
	globals               []byte // entries, with functions renumbered
	numGlobals            int
	exports               []export
	start                 *uint32
	elements              []byte // the section's body, with functions renumbered
	dataCount, data, name []byte
	dataBytes             int
	usesInit              bool     // known once all bodies were decoded, as is
	usesTails             bool     // that there are tail calls
	refersToImports       bool     // imported functions may be in tables
	bodies                [][]byte // of the defined functions, with their locals
}

// remap returns the new index of a function: the import takes the place of the
// first defined one, which goes behind the last.
func (m *module) remap(f uint32) uint32 {
	if f == m.importedFuncs {
		return m.importedFuncs + uint32(len(m.functions))
	}
	return f
}

// callType returns the type of what a call instruction calls.
func (m *module) callType(i *instr) uint32 {
	switch {
	case i.op == opCallIndirect || i.op == opTailIndirect:
		return i.arg
	case i.arg < m.importedFuncs:
		return m.importTypes[i.arg]
	}
	return m.functions[i.arg-m.importedFuncs]
}

func (m *module) numFuncs() uint32 { return m.importedFuncs + uint32(len(m.functions)) }

var header = []byte("\x00asm\x01\x00\x00\x00")

// decode reads all but the functions' code.
func decode(b []byte) (*module, error) {
	if !bytes.HasPrefix(b, header) {
		r := reader{}
		r.fail(ErrMalformed, "it does not begin as a module of version 1 does")
		return nil, r.err
	}
	r := reader{b: b, pos: len(header)}
	m := &module{}
	last := 0
	for r.more() {
		id := r.byte()
		s := reader{b: r.skip(r.u32())}
		if r.err != nil {
			break
		}
		if id == secCustom {
			m.custom(&s)
			continue
		}
		place := order(id)
		if id == secTag {
			r.fail(ErrUnsupported, "exceptions (a section of tags)")
			break
		}
		if place == 0 {
			r.fail(ErrUnsupported, "a section of the number %d", id)
			break
		}
		if place <= last {
			r.fail(ErrMalformed, "its sections are out of order")
			break
		}
		last = place
		m.section(id, &s)
		if s.err == nil && s.pos != len(s.b) {
			s.fail(ErrMalformed, "section %d is longer than its content", id)
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	if r.err == nil && len(m.bodies) != len(m.functions) {
		r.fail(ErrMalformed, "it has %d functions and %d bodies", len(m.functions), len(m.bodies))
	}
	if r.err == nil {
		m.check(&r)
	}
	return m, r.err
}

// order is the place of a section among the others, 0 if it is unknown.
func order(id byte) int {
	switch {
	case id == secDataCount:
		return 10
	case id == secCode || id == secData:
		return int(id) + 1
	case id <= secElement:
		return int(id)
	}
	return 0
}

// check checks what sections say of later ones.
func (m *module) check(r *reader) {
	for _, t := range m.functions {
		if int(t) >= m.numTypes {
			r.fail(ErrMalformed, "a function has the unknown type %d", t)
		}
	}
	for _, e := range m.exports {
		if e.kind == 0 && e.index >= m.numFuncs() || e.kind == 3 && int(e.index) >= m.importedGlobals+m.numGlobals {
			r.fail(ErrMalformed, "it exports what it does not have")
		}
	}
	if m.start != nil && *m.start >= m.numFuncs() {
		r.fail(ErrMalformed, "its start function does not exist")
	}
}

// custom keeps the names. A section that is damaged is nobody's loss.
func (m *module) custom(s *reader) {
	if name := s.skip(s.u32()); s.err == nil && string(name) == "name" && m.name == nil {
		m.name = s.b[s.pos:]
	}
}

func (m *module) section(id byte, s *reader) {
	switch id {
	case secType:
		m.typeSection(s)
	case secImport:
		m.importSection(s)
	case secFunction:
		m.functions = make([]uint32, s.count())
		for i := range m.functions {
			m.functions[i] = s.u32()
		}
	case secTable:
		m.tableSection(s)
	case secMemory:
		m.memories = s.b
		if n := s.count(); n > 1 {
			s.fail(ErrUnsupported, "more than one memory")
		} else if n == 1 {
			s.memory()
		}
	case secGlobal:
		m.globalSection(s)
	case secExport:
		m.exportSection(s)
	case secStart:
		f := s.u32()
		m.start = &f
	case secElement:
		m.elementSection(s)
	case secDataCount:
		m.dataCount = s.b
		s.u32()
	case secCode:
		m.bodies = make([][]byte, s.count())
		for i := range m.bodies {
			if m.bodies[i] = s.skip(s.u32()); len(m.bodies[i]) > maxBody {
				s.fail(ErrUnsupported, "a function of %d bytes; at most %d are", len(m.bodies[i]), maxBody)
			}
		}
	case secData:
		m.dataSection(s)
	}
}

func (m *module) typeSection(s *reader) {
	m.numTypes = s.count()
	begin := s.pos
	for range m.numTypes {
		if c := s.byte(); c != 0x60 && s.err == nil {
			s.fail(ErrUnsupported, "a type of the form %#x", c)
		}
		params, in := values(s)
		results, out := values(s)
		if s.err != nil {
			return
		}
		m.results = append(m.results, [...]byte{blockEmpty, s.b[s.pos-1], 0}[min(results, 2)])
		m.params, m.inRegisters = append(m.params, uint32(params)), append(m.inRegisters, in && out)
		m.arity = append(m.arity, int64(params+results))
	}
	m.types = s.b[begin:s.pos]
}

// values reads the types of parameters or of results. It returns how many there
// are, and whether the engine passes all of them in registers.
func values(s *reader) (n int, fit bool) {
	var used [2]int // registers: of integers and references, of others
	n = s.count()
	for k := 0; k < n && s.err == nil; k++ {
		t := s.valueType()
		if t == valueI32 || t == valueI64 || t == typeFuncref || t == typeExternref {
			used[0]++
		} else {
			used[1]++
		}
	}
	return n, used[0] <= intRegisters && used[1] <= otherRegisters
}

func (m *module) importSection(s *reader) {
	m.numImports = s.count()
	begin := s.pos
	for range m.numImports {
		if string(s.skip(s.u32())) == ImportModule {
			s.fail(ErrUnsupported, "an import from %q", ImportModule)
		}
		s.skip(s.u32())
		switch kind := s.byte(); kind {
		case 0:
			m.importedFuncs++
			t := s.u32()
			if int(t) >= m.numTypes {
				s.fail(ErrMalformed, "an import has the unknown type %d", t)
			}
			m.importTypes = append(m.importTypes, t)
		case 2:
			s.memory()
		case 3:
			m.importedGlobals++
			s.valueType()
			s.byte()
		default:
			// A table of another module's might hold functions that are not
			// metered, and would not be bounded.
			s.fail(ErrUnsupported, "an import of the kind %d", kind)
		}
		if s.err != nil {
			return
		}
	}
	m.imports = s.b[begin:s.pos]
}

func (m *module) tableSection(s *reader) {
	n := s.count()
	if n > maxTables {
		s.fail(ErrUnsupported, "%d tables; at most %d are", n, maxTables)
		return
	}
	for range n {
		m.tables = append(m.tables, table{kind: s.refType(), size: s.limits()})
	}
}

func (m *module) exportSection(s *reader) {
	for n := s.count(); n > 0 && s.err == nil; n-- {
		m.exports = append(m.exports, export{name: s.skip(s.u32()), kind: s.byte(), index: s.u32()})
	}
}

// globalSection copies the globals: their initial values may name functions.
func (m *module) globalSection(s *reader) {
	m.numGlobals = s.count()
	m.globals = make([]byte, 0, len(s.b)+8)
	for n := range m.numGlobals {
		m.globals = append(m.globals, s.valueType(), s.byte())
		m.globals = m.constExpr(s, m.globals, m.importedGlobals+n)
		if s.err != nil {
			return
		}
	}
}

// constExpr appends a constant expression with functions renumbered. It may
// name that many globals.
func (m *module) constExpr(s *reader, out []byte, globals int) []byte {
	for s.err == nil {
		begin := s.pos
		switch op := s.byte(); op {
		case opEnd:
			return append(out, opEnd)
		case opI32Const:
			s.sleb(5)
		case opI64Const:
			s.sleb(10)
		case opF32Const:
			s.skip(4)
		case opF64Const:
			s.skip(8)
		case opI32Add, opI32Sub, opI32Mul, opI64Add, opI64Sub, opI64Mul:
		case opGlobalGet:
			if g := s.u32(); int(g) >= globals {
				s.fail(ErrMalformed, "a constant expression names the unknown global %d", g)
			}
		case opRefNull:
			s.refType()
		case opRefFunc:
			out = uleb(append(out, opRefFunc), m.remap(m.reference(s)))
			continue
		case opVector:
			if s.byte() != 0x0c && s.err == nil {
				s.fail(ErrMalformed, "a constant expression has a vector instruction")
			}
			s.skip(16)
		default:
			s.fail(ErrUnsupported, "the instruction %#x in a constant expression", op)
		}
		if s.err == nil {
			out = append(out, s.b[begin:s.pos]...)
		}
	}
	return out
}

// function reads a function's index.
func (m *module) function(s *reader) uint32 {
	f := s.u32()
	if f >= m.numFuncs() {
		s.fail(ErrMalformed, "the function %d does not exist", f)
		return 0
	}
	return f
}

// reference reads the index of a function that may be called by a table.
func (m *module) reference(s *reader) uint32 {
	f := m.function(s)
	m.refersToImports = m.refersToImports || f < m.importedFuncs
	return f
}

func (m *module) elementSection(s *reader) {
	n := s.count()
	out := uleb(make([]byte, 0, len(s.b)+16), uint32(n))
	for ; n > 0 && s.err == nil; n-- {
		out = m.segment(s, out)
	}
	m.elements = out
}

// segment appends one list of elements with functions renumbered.
func (m *module) segment(s *reader, out []byte) []byte {
	globals := m.importedGlobals + m.numGlobals
	flags := s.u32()
	if flags > 7 {
		s.fail(ErrUnsupported, "elements with the flags %d", flags)
		return out
	}
	passive, explicit, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
	out = append(out, byte(flags))
	if !passive {
		if explicit {
			out = uleb(out, s.u32()) // table
		}
		out = m.constExpr(s, out, globals)
	}
	if passive || explicit {
		kind := s.byte() // of elements, or their type
		if !expressions && kind != 0 || expressions && kind != typeFuncref && kind != typeExternref {
			s.fail(ErrUnsupported, "elements of the kind %#x", kind)
		}
		out = append(out, kind)
	}
	count := s.count()
	out = uleb(out, uint32(count))
	for ; count > 0 && s.err == nil; count-- {
		if expressions {
			out = m.constExpr(s, out, globals)
		} else {
			out = uleb(out, m.remap(m.reference(s)))
		}
	}
	return out
}

// dataSection only measures and checks; the bytes pass unchanged.
func (m *module) dataSection(s *reader) {
	m.data = s.b
	for n := s.count(); n > 0 && s.err == nil; n-- {
		flags := s.u32()
		if flags > 2 {
			s.fail(ErrUnsupported, "data with the flags %d", flags)
			return
		}
		if flags == 2 {
			s.u32()
		}
		if flags != 1 {
			m.dataExpr(s)
		}
		m.dataBytes += len(s.skip(s.u32()))
	}
}

func (m *module) dataExpr(s *reader) {
	begin := s.pos
	out := m.constExpr(s, nil, m.importedGlobals+m.numGlobals)
	if s.err == nil && !bytes.Equal(out, s.b[begin:s.pos]) {
		s.fail(ErrMalformed, "an offset of data is a function")
	}
}
