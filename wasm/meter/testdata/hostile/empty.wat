;; A loop whose body is nothing.
(module (memory 1) (func (export "_start") (loop (br 0))))
