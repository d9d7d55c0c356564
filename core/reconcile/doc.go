// Package reconcile asks controllers what should be, and makes it so: it
// watches, coalesces, observes, calls, adopts, releases, applies, retries and
// plans. It must not know any kind of workload; all that it knows of a kind
// is in its controller's Description.
//
// One round of one parent goes: observe (observe.go) from one snapshot that
// holds at least what this parent's own last round wrote; decide, with a
// deadline; validate (validate.go); apply (apply.go): first everything that
// must happen together in one Transact, then creates in slow start, then
// deletes. A refused round leaves the rest to the next.
//
// A parent that is being deleted is asked about only while it holds a
// finalizer of its controller's own (see Finalizers in core.Decision); its
// children are then the business of garbage collection.
//
// The finalizers that a controller may hold have as their prefix the parent
// kind's group, or the controller's name: "example.com/", "cleaner/".
package reconcile
