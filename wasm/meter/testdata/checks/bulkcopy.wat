;; One instruction that copies 16 MiB.
(module
  (global $left (export "g0") (mut i32) (i32.const 1))
  (memory (export "m") 512)
  (func (export "f")
    (memory.copy (i32.const 0) (i32.const 0x1000000) (i32.const 0x1000000)))
)
