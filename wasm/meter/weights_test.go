package meter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftrun/weft/wasm/meter"
)

// What is not seen in the instructions is charged as well, and all that is.
func TestHiddenWork(t *testing.T) {
	const locals, params, rounds = 400, 400, 20_000
	const budget = 200_000 // what is owed when it ends is forgotten, so it is great
	for name, tc := range map[string]struct {
		module string
		least  int // units for each round
	}{
		// The engine moves what is set on the path that is not taken.
		"locals where paths meet": {fmt.Sprintf(`(module (memory (export "memory") 1)
			(func (export "f") (param $n i64) (param i64) (result i64) %s
				(loop $l
					(if (i64.eq (local.get $n) (i64.const -1)) (then %s))
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				(i64.const 0) %s))`,
			each(locals, "(local $l%d i64)"), each(locals, "(local.set $l%[1]d (i64.load offset=%[1]d (i32.const 0)))"),
			each(locals, "(i64.add (local.get $l%d))")), 2 * locals},
		"parameters": {fmt.Sprintf(`(module (memory (export "memory") 1)
			(type $many (func (param %[1]s) (result %[1]s)))
			(func $id (type $many) %[2]s)
			(func (export "f") (param $n i64) (param i64) (result i64)
				%[3]s
				(loop $l (type $many)
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				%[4]s))`,
			strings.Repeat("i64 ", params), each(params, "(local.get %d)"), each(params, "(i64.const %d)"),
			strings.Repeat("i64.add ", params-1)), 2 * params},
		"calls of the host by a table": {`(module
			(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
			(table 1 funcref) (elem (i32.const 0) $yield)
			(func (export "f") (param $n i64) (param i64)
				(loop $l
					(drop (call_indirect (result i32) (i32.const 0)))
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))))`, 800},
		"what follows when an inner loop is left": {fmt.Sprintf(`(module (memory (export "memory") 1)
			(func (export "f") (param $n i64) (param $x i64) (local $i i64)
				(loop $l
					(local.set $i (i64.const 3))
					(loop $inner
						(br_if $inner (i64.ne (i64.const 0) (local.tee $i (i64.sub (local.get $i) (i64.const 1))))))
					%s
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				(i64.store (i32.const 0) (local.get $x))))`,
			each(200, "(local.set $x (i64.mul (local.get $x) (i64.const %d)))")), 800},
		"the only round of a loop": {fmt.Sprintf(`(module (memory (export "memory") 1)
			(func (export "f") (param $n i64) (param $x i64)
				(loop $l
					(loop $inner
						%s
						(br_if $inner (i64.eq (i64.const -1) (local.get $n))))
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				(i64.store (i32.const 0) (local.get $x))))`,
			each(200, "(local.set $x (i64.mul (local.get $x) (i64.const %d)))")), 800},
		"what leads to a check within a loop": {fmt.Sprintf(`(module (memory (export "memory") 1)
			(func (export "f") (param $n i64) (param $x i64)
				(loop $l
					%s
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				(i64.store (i32.const 0) (local.get $x))))`,
			each(2000, "(local.set $x (i64.mul (local.get $x) (i64.const %d)))")), 8000},
		"the first rounds": {fmt.Sprintf(`(module
			(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
			(memory (export "memory") 1)
			(func (export "f") (param $n i64) (param $x i64) (local $i i64)
				(loop $l
					(drop (call $yield))
					%s
					(br_if $l (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
				(i64.store (i32.const 0) (local.get $x))))`,
			each(20, `(local.set $i (i64.const 4))
				(loop $inner%[1]d
					`+strings.Repeat("(local.set $x (i64.mul (local.get $x) (i64.const 3)))", 3)+`
					(br_if $inner%[1]d (i64.ne (i64.const 0) (local.tee $i (i64.sub (local.get $i) (i64.const 1))))))`)), 800 + 960},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t)
			p.budget = budget
			o, err := p.run(t.Context(), rewrite(t, assemble(t, tc.module), meter.Options{}), "f", rounds, 0)
			if err != nil || o.Err != "" {
				t.Fatal(err, o.Err)
			}
			if paid := p.refills * budget; paid < rounds*tc.least {
				t.Errorf("paid %d units for %d rounds of %d", paid, rounds, tc.least)
			}
		})
	}
}

// Straight code has checks also where what follows never ends.
func TestStraightBeforeEndless(t *testing.T) {
	module := assemble(t, `(module (func (export "f") (param $x i64) `+
		each(20_000, "(local.set $x (i64.mul (local.get $x) (i64.const %d)))")+`(loop (br 0))))`)
	_, info, err := meter.Rewrite(module, meter.Options{})
	if err != nil || info.Checks < 15 {
		t.Errorf("%d checks for 80,000 instructions, %v", info.Checks, err)
	}
}

// each repeats a text with the numbers from 0.
func each(n int, text string) string {
	var b strings.Builder
	for k := range n {
		fmt.Fprintf(&b, text, k)
	}
	return b.String()
}
