;; A recursion of 100,000 frames, each of which counts g0 down twice behind its call: so
;; little that no check has to stand there, but not all of them together.
(module
  (memory (export "m") 1)
  (global $left (export "g0") (mut i32) (i32.const 200000))
  (func $f (param i32)
    (if (local.get 0)
      (then
        (call $f (i32.sub (local.get 0) (i32.const 1)))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (global.set $left (i32.sub (global.get $left) (i32.const 1))))))
  (func (export "f") (call $f (i32.const 100000))))
