;; A recursion that works while it returns.
(module
  (memory (export "m") 1)
  (global $left (export "g0") (mut i32) (i32.const 20000))
  (func $f (param i32)
    (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))))
    (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (global.set $left (i32.sub (global.get $left) (i32.const 1)))
  )
  (func (export "f") (call $f (i32.const 400))))
