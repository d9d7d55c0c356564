;; trap traps, three functions deep.
(module
  (memory (export "memory") 1)
  (func $inner unreachable)
  (func $middle (call $inner))
  (func $_start (export "_start") (call $middle)))
