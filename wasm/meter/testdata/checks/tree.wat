;; A tree of calls that weighs more than a call by the table is charged for.
(module
  (memory (export "m") 1)
  (global $left (export "g0") (mut i32) (i32.const 50000))
  (table 1 funcref)
  (elem (i32.const 0) $many)
  (type $none (func))
  (func $one (global.set $left (i32.sub (global.get $left) (i32.const 1))))
  (func $many
    (call $one) (call $one) (call $one) (call $one) (call $one)
    (call $one) (call $one) (call $one) (call $one) (call $one)
    (call $one) (call $one) (call $one) (call $one) (call $one)
    (call $one) (call $one) (call $one) (call $one) (call $one)
    (call $one) (call $one) (call $one) (call $one) (call $one)
  )
  (func (export "f")
    (loop
      (call_indirect (type $none) (i32.const 0))
      (br_if 0 (global.get $left)))))
