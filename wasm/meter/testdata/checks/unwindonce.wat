;; As unwind, of a function that is charged for its frame where it begins.
(module
  (memory (export "m") 1)
  (global $left (export "g0") (mut i32) (i32.const 200000))
  (func $f (param i32) (result i32)
    (if (local.get 0)
      (then
        (drop (call $f (i32.sub (local.get 0) (i32.const 1))))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (return (local.get 0)))
      (else
        (return (i32.const 1))))
    (drop (call $f (i32.const 0)))
    (drop (call $f (i32.const 0)))
    (drop (call $f (i32.const 0)))
    (i32.const 2))
  (func (export "f") (drop (call $f (i32.const 100000)))))
