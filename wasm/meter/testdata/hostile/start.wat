;; A start function that never ends.
(module (memory 1) (func $s (loop (br 0))) (start $s) (func (export "_start")))
