package meter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
)

// A guest must not name a local that it has not declared: local 0, in a function that
// has none.
func TestLocalsAreChecked(t *testing.T) {
	module := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" +
		"\x0a\x0d\x01\x0b\x00" + "\x42\x00\x21\x00" + "\x03\x40\x0c\x00\x0b" + "\x0b")
	_, _, err := meter.Rewrite(module, meter.Options{})
	if !errors.Is(err, meter.ErrMalformed) || !strings.Contains(err.Error(), "the local 0 does not exist") {
		t.Errorf("got %v", err)
	}
}

// Labels that leave loops, parameters and results of loops, and a loop
// that is entered again, all give what they gave.
func TestLoops(t *testing.T) {
	for name, text := range map[string]string{
		"parameters": loopsOfParameters, "results": loopsOfResults, "results behind branches": resultsBehindBranches,
	} {
		t.Run(name, func(t *testing.T) {
			module := assemble(t, text)
			for _, args := range [][]uint64{{1, 1}, {3, 1000}, {5000, 3}, {900, 1200}} {
				same(t, newPlay(t), module, meter.Options{}, "f", args...)
			}
		})
	}
}

const loopsOfParameters = `(module
  (memory (export "memory") 1)
  (global (export "g0") (mut i64) (i64.const 0))
  (func (export "f") (param $n i64) (param $m i64) (result i64)
    (local $i i64) (local $j i64)
    (block $out (result i64)
      (i64.const 1) (i64.const 7)
      (loop $outer (param i64 i64) (result i64 i64)
        (local.set $j (i64.const 0))
        (block $next (param i64 i64) (result i64 i64)
          (loop $inner (param i64 i64) (result i64 i64)
            (i64.add (i64.const 3))
            (i64.rotl (i64.const 5))
            (local.set $j (i64.add (local.get $j) (i64.const 1)))
            (block $zero (param i64 i64) (result i64 i64) (block $one (param i64 i64) (result i64 i64) (block $two (param i64 i64) (result i64 i64)
              (br_table $zero $one $two (i32.wrap_i64 (i64.rem_u (local.get $j) (i64.const 97)))))
              (br_if $inner (i64.lt_u (local.get $j) (local.get $m)))
              (br $next))
              (br_if $next (i64.gt_u (local.get $j) (i64.const 500)))
              (br $inner))
            (br $inner)))
        (i64.xor (local.get $j))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (global.set 0 (local.get $i))
        (br_if $out (i64.gt_u (local.get $i) (i64.const 4000)))
        (br_if $outer (i64.lt_u (local.get $i) (local.get $n))))
      (i64.add))))`

const loopsOfResults = `(module
  (memory (export "memory") 1)
  (global (export "g0") (mut i64) (i64.const 0))
  (func (export "f") (param $n i64) (param $m i64) (result i64)
    (local $i i64) (local $j i64) (local $k i64) (local $x i64)
    (local.set $x (i64.const 1))
    (block $out (result i64)
      (loop $outer (result i64)
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (local.set $j (i64.const 0))
        (block $next
          (local.set $x (i64.add (local.get $x)
            (loop $middle (result i64)
              (local.set $j (i64.add (local.get $j) (i64.const 1)))
              (local.set $k (i64.const 0))
              (local.set $x (i64.rotl (local.get $x)
                (loop $inner (result i64)
                  (local.set $k (i64.add (local.get $k) (i64.const 1)))
                  (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 31)) (local.get $k)))
                  (drop (br_if $out (local.get $x) (i64.eq (i64.rem_u (local.get $x) (i64.const 10007)) (i64.const 5))))
                  (block $zero (block $one (block $two (block $three
                    (br_table $zero $one $two $three $middle (i32.wrap_i64 (i64.rem_u (local.get $x) (i64.const 9)))))
                    (br_if $middle (i64.lt_u (local.get $j) (i64.const 7))))
                    (br_if $inner (i64.lt_u (local.get $k) (i64.const 40))))
                    (br_if $next (i64.gt_u (local.get $j) (local.get $m))))
                  (br_if $outer (i64.gt_u (local.get $k) (i64.const 35)))
                  (local.get $k))))
              (br_if $middle (i64.lt_u (local.get $j) (local.get $m)))
              (local.get $j)))))
        (global.set 0 (local.get $i))
        (br_if $outer (i64.lt_u (local.get $i) (local.get $n)))
        (local.get $x)))))`

// resultsBehindBranches has loops of results that end with a branch.
const resultsBehindBranches = `(module
  (memory (export "memory") 1)
  (global (export "g0") (mut i64) (i64.const 0))
  (func (export "f") (param $n i64) (param $m i64) (result i64)
    (local $i i64) (local $j i64)
    (block $out (result i64)
      (loop $outer (result i64)
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (local.set $j (i64.const 0))
        (drop (br_if $out (local.get $i) (i64.gt_u (local.get $i) (local.get $n))))
        (local.set $j
          (block $in (result i64)
            (loop $inner (result i64)
              (local.set $j (i64.add (local.get $j) (i64.const 1)))
              (if (result i64) (i64.gt_u (local.get $j) (local.get $m))
                (then (br $in (local.get $j)))
                (else (br $inner))))))
        (global.set 0 (i64.add (global.get 0) (local.get $j)))
        (br $outer)))))`
