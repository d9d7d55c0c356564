;; Copies of 255 MiB, for ever, overlapping.
(module (memory 4096) (func (export "_start")
  (loop (memory.copy (i32.const 1) (i32.const 0) (i32.const 267386880)) (memory.copy (i32.const 0) (i32.const 1) (i32.const 267386880)) (br 0))))
