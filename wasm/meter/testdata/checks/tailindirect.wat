;; A function that calls itself at its end by the table.
(module
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (memory (export "m") 1)
  (table 1 funcref)
  (elem (i32.const 0) $f)
  (type $none (func))
  (func $f (export "f")
    (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (if (global.get $left) (then (return_call_indirect (type $none) (i32.const 0)))))
)
