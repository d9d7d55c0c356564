package meter_test

import (
	"bytes"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
)

// The first check of a function with an odd number of parameters of 4 bytes, and
// no other one, has a value around its call that fills up the frame's 8 bytes.
func TestAligned(t *testing.T) {
	loops := `(loop (br_if 0 (i32.eqz (i32.const 1)))) (loop (br_if 0 (i32.eqz (i32.const 1))))`
	filler := []byte{0xb4, 0x10} // f32.convert_i64_s, call
	for _, tc := range []struct {
		params string
		want   int
	}{
		{"", 0}, {"(param i32)", 1}, {"(param f32)", 1}, {"(param i32 f32)", 0}, {"(param i64 i32 f64)", 1}, {"(param i32 i32 i64 i32)", 1},
	} {
		module := assemble(t, `(module (func (export "f") `+tc.params+loops+`))`)
		out, info, err := meter.Rewrite(module, meter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(out, filler); got != tc.want || info.Checks != 2 {
			t.Errorf("%s: %d of %d checks align, want %d of 2", tc.params, got, info.Checks, tc.want)
		}
	}
}

// Guests that align run as ever, also where the budget ends again and again.
func TestAlignedRuns(t *testing.T) {
	module := assemble(t, `(module
  (memory (export "memory") 1)
  (global (export "g0") (mut i64) (i64.const 0))
  (func $down (param $n i32) (result i64)
    (if (result i64) (i32.eqz (local.get $n)) (then (i64.const 1))
      (else (i64.add (call $down (i32.sub (local.get $n) (i32.const 1))) (i64.extend_i32_u (local.get $n))))))
  (func (export "f") (param $n i64) (result i64)
    (call $down (i32.wrap_i64 (local.get $n)))))`)
	for _, n := range []uint64{0, 1, 7, 5000} {
		same(t, newPlay(t), module, "f", n)
	}
}
