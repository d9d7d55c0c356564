// Package store keeps the cluster's state: in memory as a persistent tree, on
// disk as one fenced log with snapshots beside it. It must not know what the
// objects mean; defaults, validation and admission are the registry's.
//
// # One log
//
// The state is a state machine whose log is a bus.Log. [Store.Commit] checks
// what its caller expects against the tentative state (committed, plus what is
// on its way to the log), gives each op the next revision, and queues it. One
// append is in flight at a time; the next record packs what has gathered
// meanwhile, to 512 KiB. Nothing is acknowledged, or shown in a snapshot or a
// watch, before the log has acknowledged the record. So commits of one object
// in a row need not wait for each other's disk, and the state of memory is
// never ahead of the log. A refusal that rests on the tentative state is an
// answer too: whoever gives it waits first until that is committed
// ([Store.Settled]).
//
// Objects that are [core.Lazy] are queued in the same order but force no
// append: they are shown as soon as everything before them is, and are logged
// with the next record, or within a second. [core.Volatile] ones are never
// logged. A commit that holds a durable op is durable as a whole.
//
// # Fencing
//
// Every append names the sequence it expects to be the last. A store that
// opens the log appends a term record first; whoever wrote before is refused
// from then on. When an append is refused or its outcome unknown, the store
// reads the last record: its own, then it was stored; the sequence unchanged,
// then it sends again; anything else, then it stops for good ([ErrLost]).
//
// # Revisions
//
// One counter numbers the changes of all resources. What is not logged can be
// lost, but its revision may have been seen; so recovery adds 65,537 to the
// newest revision that the log knows of, and a running store shows no revision
// more than 65,536 beyond its last record: it appends one first.
//
// # Records
//
// All integers are little endian. The first six bytes keep their meaning in
// every future format.
//
//	offset size
//	     0    4  magic "WEFT"
//	     4    1  format: the version that wrote the record, now 1
//	     5    1  reader: the oldest version that can read it
//	     6    1  kind: 1 changes, 2 term, 3 snapshot chunk, 4 snapshot manifest,
//	              5 piece of a file, in backups
//	     7    1  codec of the body: 0 none, 1 zstd
//	     8    8  key id: the first bytes of the SHA-256 of the key
//	    16    8  term of the writer
//	    24    8  first: the revision that the body's revisions count from
//	    32    8  high: the newest revision given to anything when it was written
//	    40    4  count of entries in the body
//	    44    4  length of the body before compression and encryption
//	    48   24  nonce
//	    72    4  CRC-32C of everything else
//	    76       body, compressed, then sealed by XChaCha20-Poly1305 with the
//	             first 72 bytes as additional data
//
// The body of changes and chunks is a row of entries: one byte of type (1
// object, 2 deletion, 3 newest revision of a resource in a namespace), the
// revision less first, group, resource, namespace and name, and for objects
// their encoding by core.Marshal; numbers and lengths are unsigned varints.
// A manifest's body is JSON. A term's body is empty.
package store
