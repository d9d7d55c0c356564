;; A loop as tight as one writes it by hand: a whole number is mixed and counted
;; down, 200 million times, and no memory is touched. It prints the number's last
;; digits in hexadecimal.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 1)
  ;; An iovec for the line at 16.
  (data (i32.const 0) "\10\00\00\00\11\00\00\00")
  (data (i32.const 16) "0000000000000000\n")
  (data (i32.const 40) "0123456789abcdef")
  (func $mix (param $left i64) (result i64)
    (local $x i64)
    (loop $again
      (local.set $x
        (i64.add
          (i64.mul (local.get $x) (i64.const 6364136223846793005))
          (local.get $left)))
      (br_if $again
        (i64.ne
          (local.tee $left (i64.sub (local.get $left) (i64.const 1)))
          (i64.const 0))))
    (local.get $x))
  (func $_start (export "_start")
    (local $x i64) (local $at i32)
    (local.set $x (call $mix (i64.const 200000000)))
    (local.set $at (i32.const 32))
    (loop $digit
      (i32.store8
        (local.tee $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.load8_u offset=40 (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 15))))
      (local.set $x (i64.shr_u (local.get $x) (i64.const 4)))
      (br_if $digit (i32.gt_u (local.get $at) (i32.const 16))))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
