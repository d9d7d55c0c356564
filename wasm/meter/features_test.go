package meter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
)

// TestTailCalls has more of them, one after the other, than there is stack for:
// one that needs more than registers is a call, and ends as deep calls do.
func TestTailCalls(t *testing.T) {
	const text = `(module
		(table 1 funcref) (elem (i32.const 0) $%[1]s)
		(memory (export "m") 1)
		(type $pair (func (param i64 i32) (result i64)))
		(type $wide (func (param i64 i32 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i64)))
		(func $direct (type $pair)
			(if (result i64) (i32.eqz (local.get 1)) (then (local.get 0))
				(else (return_call $direct (i64.add (local.get 0) (i64.const 3)) (i32.sub (local.get 1) (i32.const 1))))))
		(func $table (type $pair)
			(if (result i64) (i32.eqz (local.get 1)) (then (local.get 0))
				(else (return_call_indirect (type $pair)
					(i64.add (local.get 0) (i64.const 3)) (i32.sub (local.get 1) (i32.const 1)) (i32.const 0)))))
		(func $wide (type $wide)
			(if (result i64) (i32.eqz (local.get 1)) (then (local.get 0))
				(else (return_call $wide (i64.add (local.get 0) (i64.const 3)) (i32.sub (local.get 1) (i32.const 1))
					(local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10)))))
		(func (export "f") (result i64)
			(call $%[1]s (i64.const 1) (i32.const %[2]d) %[3]s)))`
	more := strings.Repeat("(i64.const 0)", 9)
	for _, tc := range []struct {
		function, more string
		rounds         int
		overflows      bool
	}{
		{"direct", "", 2_000_000, false},
		{"table", "", 2_000_000, false},
		{"wide", more, 1000, false},
		{"wide", more, 2_000_000, true},
	} {
		t.Run(fmt.Sprint(tc.function, tc.rounds), func(t *testing.T) {
			module := assemble(t, fmt.Sprintf(text, tc.function, tc.rounds, tc.more))
			same(t, newPlay(t), module, meter.Options{}, "f")
			o, err := newPlay(t).run(t.Context(), rewrite(t, module, meter.Options{}), "f")
			if err != nil || (o.Err == meter.StackOverflow) != tc.overflows {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
}

func TestExtendedConstants(t *testing.T) {
	same(t, newPlay(t), assemble(t, `(module
		(global $a i32 (i32.const 5))
		(global (export "g0") (mut i32) (i32.add (i32.const 7) (i32.mul (i32.const 3) (i32.const 4))))
		(global (export "g1") (mut i64) (i64.sub (i64.const 7) (i64.const 9)))
		(memory (export "m") 1)
		(data (i32.add (i32.const 100) (i32.const 28)) "hello")
		(func (export "f") (result i32) (i32.load (i32.const 128))))`), meter.Options{}, "f")
}

// What is not known is refused by its name.
func TestRefusesFeatures(t *testing.T) {
	for name, tc := range map[string]struct{ module, want string }{
		"exceptions": {"\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0d\x03\x01\x00\x00\x0a\x06\x01\x04\x00\x08\x00\x0b", "exceptions"},
		"try_table":  {"\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x08\x01\x06\x00\x1f\x40\x00\x0b\x0b", "an instruction for exceptions"},
		"call_ref":   {"\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x06\x01\x04\x00\x14\x00\x0b", "typed references"},
		"atomic":     {"\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x06\x01\x04\x00\xfe\x03\x0b", "an atomic instruction"},
		"struct.new": {"\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x06\x01\x04\x00\xfb\x00\x0b", "garbage-collected"},
		"shared":     {"\x05\x04\x01\x03\x01\x02", "shared"},
		"memories":   {"\x05\x05\x02\x00\x01\x00\x01", "more than one memory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := meter.Rewrite([]byte("\x00asm\x01\x00\x00\x00"+tc.module), meter.Options{})
			if !isUnsupported(err) || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for name, memory := range map[string]string{
		"too large": "\x05\x05\x01\x00\x81\x80\x04",
		"reversed":  "\x05\x04\x01\x01\x02\x01",
	} {
		if _, _, err := meter.Rewrite([]byte("\x00asm\x01\x00\x00\x00"+memory), meter.Options{}); err == nil {
			t.Errorf("a memory that is %s is accepted", name)
		}
	}
}
