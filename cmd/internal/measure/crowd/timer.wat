;; timer sleeps for 10 ms and writes a line, for ever.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; A subscription of 48 bytes: user data, the tag of a clock, the monotonic
  ;; clock, 10,000,000 ns, precision, no flags.
  (data (i32.const 0) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\80\96\98\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 64) "\60\00\00\00\02\00\00\00")
  (data (i32.const 96) "t\n")
  (func (export "_start")
    (loop $again
      (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 192)))
      (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 200)))
      (br $again))))
