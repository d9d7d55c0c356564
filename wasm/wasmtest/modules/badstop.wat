;; badstop is a reactor whose weft_stop cannot be called: it wants a parameter.
(module
  (memory (export "memory") 1)
  (func (export "_initialize"))
  (func (export "weft_stop") (param i32)))
