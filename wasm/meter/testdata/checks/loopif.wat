;; A loop that goes on from within a condition, without one of its own, until left is 0.
(module
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (memory (export "m") 1)
  (func (export "f")
    (loop
      (if (global.get $left)
        (then
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (br 1)))))
)
