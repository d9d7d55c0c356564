;; A table that grows and is filled, for ever.
(module (memory 1) (table $t 1 funcref) (func (export "_start")
  (loop (drop (table.grow $t (ref.null func) (i32.const 1000)))
    (table.fill $t (i32.const 0) (ref.null func) (table.size $t))
    (table.copy $t $t (i32.const 1) (i32.const 0) (i32.sub (table.size $t) (i32.const 1))) (br 0))))
