;; Growth, for ever.
(module (memory 1) (func (export "_start")
  (loop (drop (memory.grow (i32.const 1))) (br 0))))
