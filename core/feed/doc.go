// Package feed tells tools on the bus what changes, and answers what they ask
// to notice and repair a gap. It must not write state, nor show what an
// observer may not see: contents of Secrets, internal kinds.
//
// # Events
//
// Each committed change is published once on [bus.EventSubject] as a
// CloudEvents 1.0 event in JSON. Its data is {"type": "ADDED" | "MODIFIED" |
// "DELETED", "object": ...} in the storage version, without managedFields.
// Of a Secret there is only its metadata, without annotations, because tools
// keep copies of whole objects there. An object whose JSON is over 512 KiB is
// a reference: identifying metadata and "dataref", its path in the API; a get
// returns it whole. Volatile kinds (Leases, the heartbeats of nodes) and
// internal kinds have no events.
//
// # Gaps
//
// The bus may drop messages; none is dropped unnoticed by a subscriber that
// keeps, for each resource and namespace, a position: the highest revision up
// to which it has seen all. So it subscribes to all names of a namespace, not
// to one. It begins with the revision of a list that was asked for after
// subscribing, also for kinds that come later. Then:
//
//   - An event at or below the position is old: ignore it.
//   - An event whose weftprevious is above the position: something was missed,
//     this event included: do not apply it yet.
//     Otherwise the event's weftrevision is the new position.
//   - A bookmark whose weftrevision is above the position: the same. Otherwise
//     its weftthrough, if higher, is the new position.
//   - Three minutes of silence about a resource and namespace, or a mended
//     connection: perhaps the same.
//
// Whatever was missed is returned by "resume" from the position; the revision
// in its answer is the new position. Who follows all namespaces of a resource
// may resume them together, without a namespace, from the position of the list
// or of the last such answer. An error with code 410 says that it is no
// longer kept: list again.
//
// A core that starts or takes over does not know what was published before.
// So weftprevious is usually the revision of the change before in the same
// resource and namespace, but never below the revision at which this core began
// to publish: whoever missed something around the change of cores finds it
// above its position, and so does, once, someone who missed nothing.
//
// # Bookmarks
//
// A resource and namespace that changed within the last minute has a bookmark
// each second, another one that holds objects each ten seconds. Above 1,000
// changing or 1,000 quiet namespaces of one resource they take turns: 1,000 of
// the changing and 100 of the quiet ones a second, so that 10,000 quiet
// namespaces have theirs each 100 seconds.
//
// # Requests
//
// An observer asks on [bus.APISubject] with an ordinary request; its answer is
// one message of JSON. The reply subject must begin with the observer's own
// inbox prefix ([bus.Identity.Inbox]). Resources are named by group ("" or
// "core" for the core group), resource (plural) and namespace ("" or "_" for
// none, or for all).
//
//	kinds   {}                                              -> {items: [{group, version, resource, kind, namespaced, events}]}
//	list    {group, resource, namespace, limit, continue}   -> {revision, items, continue}
//	get     {group, resource, namespace, name}              -> {revision, object}
//	resume  {group, resource, namespace, from, limit}       -> {revision, events, more}
//
// Revisions are strings of digits. A page has at most 1,000 entries (500
// unless asked otherwise) and 1 MiB. While a list's answer has "continue", ask
// again with it. Pages are read when they are asked for; the revision is that
// of the first, and the events after it make the pages whole. While a resume's
// answer has "more", ask again from its revision.
//
// One observer may have 16 requests open; a core answers 8 at once. An error
// with code 429 or above 499 may pass: ask again.
//
// An error is a message with the header "Weft-Error: 1" whose data is
// {"code", "reason", "message"} as in Kubernetes' Status; no other answer has
// a "code".
package feed
