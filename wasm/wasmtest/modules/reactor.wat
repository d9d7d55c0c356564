;; reactor is initialised and waits to be called.
(module
  (memory (export "memory") 1)
  (func (export "_initialize")))
