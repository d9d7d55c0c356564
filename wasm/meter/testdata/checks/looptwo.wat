;; A loop with two branches to its beginning, that goes on until left is 0.
(module
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (memory (export "m") 1)
  (func (export "f")
    (loop
      (global.set $left (i32.sub (global.get $left) (i32.const 1)))
      (br_if 0 (i32.and (global.get $left) (i32.const 1)))
      (br_if 0 (global.get $left))))
)
