;; A loop that goes on until left is 0, and uses ten locals.
(module
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (memory (export "m") 1)
  (func (export "f")
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
    (loop
      (global.set $left (i32.sub (global.get $left) (i32.const 1)))
      (drop (local.get 0)) (drop (local.get 1)) (drop (local.get 2)) (drop (local.get 3)) (drop (local.get 4))
      (drop (local.get 5)) (drop (local.get 6)) (drop (local.get 7)) (drop (local.get 8)) (drop (local.get 9))
      (br_if 0 (global.get $left))))
)
