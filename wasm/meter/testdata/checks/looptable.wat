;; A loop that a table leads back to, until left is 0.
(module
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (memory (export "m") 1)
  (func (export "f")
    (block
      (loop
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))
        (br_table 1 0 (global.get $left)))))
)
