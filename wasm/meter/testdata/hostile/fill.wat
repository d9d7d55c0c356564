;; Fills of 256 MiB, for ever.
(module (memory 4096) (func (export "_start")
  (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 268435456)) (br 0))))
