;; Takes memory, 1 MiB at a time, and touches it; ends with the number of MiB it got, at most 100.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 0)
  (func (export "_start")
    (local $got i32) (local $page i32)
    (block $full
      (loop $more
        (br_if $full (i32.eq (local.get $got) (i32.const 100)))
        (local.set $page (memory.grow (i32.const 16)))
        (br_if $full (i32.eq (local.get $page) (i32.const -1)))
        (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
        (local.set $got (i32.add (local.get $got) (i32.const 1)))
        (br $more)))
    (call $exit (local.get $got))))
