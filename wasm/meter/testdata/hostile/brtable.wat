;; Two loops that lead to each other by tables alone.
(module (memory 1) (func (export "_start") (local i32)
  (loop (loop
    (local.set 0 (i32.add (local.get 0) (i32.const 1)))
    (br_table 0 1 1 0 (i32.and (local.get 0) (i32.const 3)))))))
