// Package module reads what a WebAssembly file says of itself: whether it is a
// module that can run here, what it imports, exports and needs. It must not
// compile or run anything, and reads no function's instructions.
package module

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/weftrun/weft/wasm"
)

// Bounds of what Inspect accepts. They are far above what compilers emit.
const (
	// PageSize is the unit of a module's memory, in bytes.
	PageSize = 64 << 10
	// MaxTableEntries is the most entries that a table may have at the start:
	// an entry costs the host 8 bytes outside of the guest's memory limit.
	MaxTableEntries = 1 << 20

	maxSectionBytes = 16 << 20 // of those sections that are read
	maxNameBytes    = 4 << 10
	maxSections     = 10_000
	maxCode         = 1 << 20 // bytes of a code section that is read
)

// Kind is what an import or export is.
type Kind byte

// The kinds, as the binary format numbers them.
const (
	Func Kind = iota
	Table
	Memory
	Global
	Tag
)

// String returns the word of the text format.
func (k Kind) String() string {
	names := [...]string{"func", "table", "memory", "global", "tag"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// Import is one thing that a module needs from outside.
type Import struct {
	Module, Name string
	Kind         Kind
}

// Info is what a module says of itself.
type Info struct {
	Imports []Import
	// Exports holds the kinds of what it exports, by name.
	Exports map[string]Kind
	// StartSection is true if instantiating it runs code.
	StartSection bool
	// HasMemory is true if it defines a memory of its own.
	HasMemory bool
	// MinMemory is the size of its memory at the start, in bytes.
	MinMemory int64
	// MaxMemory is the most that it declares to need, in bytes; 0: no bound.
	MaxMemory int64
	// Locals is how many its functions declare together: of what makes a module
	// dear to compile, the one thing that its size does not tell. MaxInt64 if
	// the code section was not read: it is larger than 1 MiB, or damaged.
	Locals int64
}

// Command reports whether the module is a program: it exports _start.
func (i *Info) Command() bool { return i.Exports["_start"] == Func && i.exports("_start") }

// Reactor reports whether it exports _initialize and no _start.
func (i *Info) Reactor() bool {
	return !i.Command() && i.exports("_initialize") && i.Exports["_initialize"] == Func
}

func (i *Info) exports(name string) bool {
	_, ok := i.Exports[name]
	return ok
}

// invalid returns an error that wraps wasm.ErrInvalidModule.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", wasm.ErrInvalidModule, fmt.Sprintf(format, args...))
}

// Inspect reads the headers of the size bytes in r. Content that can never run
// gives an error that wraps wasm.ErrInvalidModule and says what the content is
// and what to do; any other error is one of reading.
func Inspect(r io.ReaderAt, size int64) (*Info, error) {
	head := make([]byte, min(size, sniffBytes))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read header: %w", err)
	}
	if err := Header(head, size); err != nil {
		return nil, err
	}
	info := &Info{Exports: map[string]Kind{}}
	pos := int64(8)
	for n := 0; pos < size; n++ {
		if n == maxSections {
			return nil, invalid("it has more than %d sections", maxSections)
		}
		next, err := info.section(r, pos, size)
		if err != nil {
			return nil, err
		}
		pos = next
	}
	return info, nil
}

// section reads the section at pos and returns where the next one begins.
func (i *Info) section(r io.ReaderAt, pos, size int64) (int64, error) {
	var head [1 + binary.MaxVarintLen32]byte
	n, err := r.ReadAt(head[:min(int64(len(head)), size-pos)], pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read section at byte %d: %w", pos, err)
	}
	d := decoder{b: head[1:max(n, 1)], base: pos + 1}
	length := int64(d.u32())
	if d.err != nil {
		return 0, truncated(size, "in a section's header")
	}
	begin := pos + int64(n) - int64(len(d.b))
	if length > size-begin {
		return 0, truncated(size, fmt.Sprintf("in its %s section, which should end at byte %d", sectionName(head[0]), begin+length))
	}
	parse := i.parser(head[0])
	if head[0] == 10 && length > maxCode {
		parse, i.Locals = nil, math.MaxInt64
	}
	if parse == nil || length == 0 {
		return begin + length, nil
	}
	if length > maxSectionBytes {
		return 0, invalid("its %s section has %d bytes; at most %d are allowed", sectionName(head[0]), length, maxSectionBytes)
	}
	body := make([]byte, length)
	if _, err := r.ReadAt(body, begin); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read %s section: %w", sectionName(head[0]), err)
	}
	d = decoder{b: body, base: begin}
	parse(&d)
	if d.err != nil {
		return 0, invalid("its %s section is damaged: %s", sectionName(head[0]), d.err)
	}
	return begin + length, nil
}

func truncated(size int64, where string) error {
	return invalid("the file is cut off after %d bytes, %s: build or copy it again", size, where)
}

func sectionName(id byte) string {
	names := [...]string{"custom", "type", "import", "function", "table", "memory", "global",
		"export", "start", "element", "code", "data", "data count", "tag"}
	if int(id) < len(names) {
		return names[id]
	}
	return fmt.Sprintf("unknown (%d)", id)
}

func (i *Info) parser(id byte) func(*decoder) {
	switch id {
	case 2:
		return i.imports
	case 4:
		return i.tables
	case 5:
		return i.memories
	case 7:
		return i.exportSection
	case 8:
		return func(*decoder) { i.StartSection = true }
	case 10:
		return i.code
	}
	return nil
}

func (i *Info) imports(d *decoder) {
	for n := d.u32(); n > 0 && d.err == nil; n-- {
		imp := Import{Module: d.name(), Name: d.name(), Kind: Kind(d.byte())}
		switch imp.Kind {
		case Func:
			d.u32()
		case Table:
			d.refType()
			d.limits()
		case Memory:
			d.limits()
		case Global:
			d.refType()
			d.byte()
		case Tag:
			d.byte()
			d.u32()
		default:
			d.fail("an import has the unknown kind %d", byte(imp.Kind))
		}
		if d.err == nil {
			i.Imports = append(i.Imports, imp)
		}
	}
}

func (i *Info) tables(d *decoder) {
	for n := d.u32(); n > 0 && d.err == nil; n-- {
		if len(d.b) > 0 && d.b[0] == 0x40 {
			return // with an initialiser; the compiler checks it
		}
		d.refType()
		if least, _, _ := d.limits(); d.err == nil && least > MaxTableEntries {
			d.fail("a table has %d entries; at most %d are allowed", least, MaxTableEntries)
		}
	}
}

func (i *Info) memories(d *decoder) {
	n := d.u32()
	if n > 1 {
		d.fail("it has %d memories; at most one is supported", n)
	}
	if n == 0 || d.err != nil {
		return
	}
	least, most, bounded := d.limits()
	if least > 1<<16 || most > 1<<16 {
		d.fail("its memory has more than 65536 pages (4 GiB)")
		return
	}
	i.HasMemory = true
	i.MinMemory = int64(least) * PageSize
	if bounded {
		i.MaxMemory = max(int64(most)*PageSize, 1)
	}
}

func (i *Info) exportSection(d *decoder) {
	for n := d.u32(); n > 0 && d.err == nil; n-- {
		name, kind := d.name(), Kind(d.byte())
		d.u32()
		if d.err == nil {
			i.Exports[name] = kind
		}
	}
}

// code counts locals. What is wrong with the code is for the compiler to say.
func (i *Info) code(d *decoder) {
	for n := d.u32(); n > 0 && d.err == nil; n-- {
		size := d.u32()
		if int64(size) > int64(len(d.b)) {
			d.fail("a function ends too early")
			break
		}
		body := decoder{b: d.b[:size]}
		d.b = d.b[size:]
		for groups := body.u32(); groups > 0 && body.err == nil; groups-- {
			i.Locals += int64(body.u32())
			body.refType()
		}
		d.err = body.err
	}
	if d.err != nil {
		i.Locals, d.err = math.MaxInt64, nil
	}
}
