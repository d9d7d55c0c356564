;; The dearest instructions, and memory that no cache holds.
(module (memory 4096) (func (export "_start") (local i64 i32)
  (loop
    (local.set 1 (i32.and (i32.add (i32.mul (local.get 1) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 268435448)))
    (local.set 0 (i64.div_u (i64.const -1) (i64.or (i64.load (local.get 1)) (i64.const 3))))
    (i64.store (local.get 1) (local.get 0)) (br 0))))
