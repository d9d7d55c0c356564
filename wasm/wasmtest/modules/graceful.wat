;; graceful opens its stop file, writes the line "up", reads the file, which waits
;; until it is asked to stop, writes the line "bye" and ends. It exits with 99 if there is no such file, with 98 if
;; it reads anything but 5 bytes of it.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\40\00\00\00\10\00\00\00") ;; 16 bytes at 64
  (data (i32.const 24) "\80\00\00\00\04\00\00\00") ;; 4 bytes at 128
  (data (i32.const 32) "\90\00\00\00\03\00\00\00") ;; 3 bytes at 144
  (data (i32.const 96) "stop")
  (data (i32.const 128) "bye\n")
  (data (i32.const 144) "up\n")
  (func (export "_start")
    (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 96) (i32.const 4) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))
      (then (call $proc_exit (i32.const 99))))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 8)))
    (if (call $fd_read (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 98))))
    (if (i32.ne (i32.load (i32.const 8)) (i32.const 5))
      (then (call $proc_exit (i32.const 98))))
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 8)))))
