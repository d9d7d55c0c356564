;; A function that calls itself at four places: it is charged for its frame where it
;; begins.
(module
  (global $left (export "g0") (mut i32) (i32.const 20000))
  (memory (export "m") 1)
  (func $f (export "f")
    (global.set $left (i32.sub (global.get $left) (i32.const 1)))
    (if (global.get $left) (then (call $f)))
    (if (global.get $left) (then (call $f)))
    (if (global.get $left) (then (call $f)))
    (if (global.get $left) (then (call $f))))
)
