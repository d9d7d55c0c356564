;; Recursion that never gets deep, by a function that returns at a depth of 50,
;; called for ever by tail of itself: only calls, no loop.
(module (memory 1)
  (func $f (param i32) (if (local.get 0) (then
    (call $f (i32.sub (local.get 0) (i32.const 1)))
    (call $f (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "_start") (call $f (i32.const 50))))
