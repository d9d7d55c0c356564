;; foreign imports what nobody provides.
(module
  (import "env" "emscripten_resize_heap" (func (param i32) (result i32)))
  (import "env" "abort" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
