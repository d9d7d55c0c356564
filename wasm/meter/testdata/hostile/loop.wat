;; A loop that does something.
(module (memory 1) (func (export "_start") (local i32)
  (loop (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br 0))))
