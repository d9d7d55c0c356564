;; lastcall is a reactor that writes the line "bye" when it is asked to stop.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 24) "\80\00\00\00\04\00\00\00") ;; 4 bytes at 128
  (data (i32.const 128) "bye\n")
  (func (export "_initialize"))
  (func (export "weft_stop")
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))))
