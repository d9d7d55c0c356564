;; One instruction that writes 32 MiB.
(module
  (global $left (export "g0") (mut i32) (i32.const 1))
  (memory (export "m") 512)
  (func (export "f")
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x2000000)))
)
