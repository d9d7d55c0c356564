;; Mutual recursion through a table.
(module (memory 1) (type $t (func (param i32))) (table 2 funcref) (elem (i32.const 0) $a $b)
  (func $a (type $t) (if (local.get 0) (then
    (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1))
    (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
  (func $b (type $t) (if (local.get 0) (then
    (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
    (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))))
  (func (export "_start") (call_indirect (type $t) (i32.const 50) (i32.const 0))))
