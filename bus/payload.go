package bus

import "slices"

// Payload describes what travels on a subject. Whoever builds a sender or a
// receiver corrects it here; the documents are generated from it.
type Payload struct {
	Name    string
	Summary string
	// ContentType of Data.
	ContentType string
	Headers     []Field
	Fields      []Field
}

// Field is one member of a payload that is a JSON object, or one header.
type Field struct {
	Name string
	// Type is one of string, integer, number, boolean, object, array, bytes
	// (base64), time (RFC 3339).
	Type     string
	Optional bool
	Summary  string
}

const (
	jsonType  = "application/json"
	cloudType = "application/cloudevents+json"
	bytesType = "application/octet-stream"
)

// Payloads returns the payloads that Subjects name.
func Payloads() []Payload {
	return slices.Concat(eventPayloads(), observerPayloads(), nodePayloads(), []Payload{
		{Name: "Request", ContentType: jsonType, Summary: "A request; what it holds depends on the method. With the header Weft-Stream it opens a stream."},
		{Name: "Reply", ContentType: bytesType, Summary: "A reply; with the header Weft-Error its data is the reason of a failure. Or a frame of a stream: one byte of kind, the frame's number as a varint, the content."},
		{Name: "Leader", ContentType: jsonType, Summary: "Which core leads.",
			Fields: []Field{
				{Name: "server", Type: "string", Summary: "where it serves the API, as a URL"},
				{Name: "holder", Type: "string", Summary: "its name, as the lease has it"},
				{Name: "term", Type: "integer", Summary: "of its leadership; what has a lower one than was heard before is ignored"},
				{Name: "resigned", Type: "boolean", Optional: true, Summary: "it leads no longer, and its lease is free"}}},
		{Name: "Content", ContentType: bytesType, Summary: "A stream of bytes."},
	})
}

func eventPayloads() []Payload {
	return []Payload{
		{Name: "Event", ContentType: cloudType, Summary: "A CloudEvents 1.0 event of one committed change. Leases have none.",
			Fields: append(cloudEvent("run.weft.object.added.v1, run.weft.object.modified.v1 or run.weft.object.deleted.v1", "the revision; one that is resumed has the same"),
				Field{Name: "subject", Type: "string", Summary: "`group/resource/namespace/name` of the object; the core group is `core`, no namespace is `_`"},
				Field{Name: "time", Type: "time", Optional: true, Summary: "when it was published; one that is resumed has none"},
				Field{Name: "datacontenttype", Type: "string", Summary: "application/json"},
				Field{Name: "weftrevision", Type: "string", Summary: "the object's resourceVersion after the change; digits"},
				Field{Name: "weftprevious", Type: "string", Summary: "the revision before it of the same resource and namespace, never below the one at which this core began: above the subscriber's position it is a gap"},
				Field{Name: "weftterm", Type: "string", Summary: "the leader's term; revisions of different terms still compare"},
				Field{Name: "dataref", Type: "string", Optional: true, Summary: "the API path of an object of which the event holds only identifying metadata, because it has more than 512 KiB; get returns it whole"},
				Field{Name: "data", Type: "object", Summary: "`type`, which is ADDED, MODIFIED or DELETED, and `object` in its storage version, without managedFields; of a Secret only metadata, without annotations"})},
		{Name: "Bookmark", ContentType: cloudType, Summary: "A CloudEvents 1.0 event that says how far a resource has come in a namespace.",
			Fields: append(cloudEvent("run.weft.bookmark.v1", "unique with source"),
				Field{Name: "subject", Type: "string", Summary: "`group/resource/namespace`"},
				Field{Name: "time", Type: "time", Summary: "when it was published"},
				Field{Name: "weftrevision", Type: "string", Summary: "the newest revision of the resource in the namespace, as far as this core knows: above the subscriber's position it is a gap"},
				Field{Name: "weftthrough", Type: "string", Summary: "all changes of the resource in the namespace up to here have been published: the subscriber's new position if there is no gap"},
				Field{Name: "weftterm", Type: "string", Summary: "the leader's term"})},
	}
}

func observerPayloads() []Payload {
	target := func(more ...Field) []Field {
		return append([]Field{
			{Name: "group", Type: "string", Optional: true, Summary: "API group; empty or `core` is the core group"},
			{Name: "resource", Type: "string", Summary: "plural name"},
			{Name: "namespace", Type: "string", Optional: true, Summary: "empty or `_` is none, or all"},
		}, more...)
	}
	limit := Field{Name: "limit", Type: "integer", Optional: true, Summary: "1 to 1,000 entries, 500 by default; an answer also ends at 1 MiB"}
	const failure = " A failure has the header Weft-Error, and the members code (integer), reason and message."
	revision := func(summary string) Field { return Field{Name: "revision", Type: "string", Summary: summary} }
	return []Payload{
		{Name: "ListRequest", ContentType: jsonType, Summary: "What to list.",
			Fields: target(limit, Field{Name: "continue", Type: "string", Optional: true, Summary: "what the page before held"})},
		{Name: "GetRequest", ContentType: jsonType, Summary: "What to get.", Fields: target(Field{Name: "name", Type: "string", Summary: "the object's name"})},
		{Name: "ResumeRequest", ContentType: jsonType, Summary: "What was missed.",
			Fields: target(Field{Name: "from", Type: "string", Summary: "the position: a revision up to which everything was seen"}, limit)},
		{Name: "KindList", ContentType: jsonType, Summary: "The kinds." + failure,
			Fields: []Field{{Name: "items", Type: "array", Summary: "group, version, resource, kind, namespaced and events (whether it has any)"}}},
		{Name: "Page", ContentType: jsonType, Summary: "A page of objects, as events show them." + failure,
			Fields: []Field{revision("of the first page; with the events after it the pages are whole"),
				{Name: "items", Type: "array", Summary: "objects; one of more than 512 KiB is its identifying metadata with `dataref`"},
				{Name: "continue", Type: "string", Optional: true, Summary: "to be sent to get the next page; absent in the last"}}},
		{Name: "Single", ContentType: jsonType, Summary: "One object." + failure,
			Fields: []Field{revision("of the state in which it was looked up"), {Name: "object", Type: "object", Summary: "as in events, but of any size"}}},
		{Name: "Resumed", ContentType: jsonType, Summary: "Events that were missed." + failure,
			Fields: []Field{revision("the new position"), {Name: "events", Type: "array", Summary: "as they were published, but for their time"},
				{Name: "more", Type: "boolean", Summary: "whether to ask again from revision"}}},
	}
}

func nodePayloads() []Payload {
	epoch := Field{Name: "epoch", Type: "integer", Summary: "the node's epoch, as given at registration; the higher wins"}
	term := Field{Name: "term", Type: "integer", Summary: "the leader's term"}
	return []Payload{
		{Name: "Desired", ContentType: "application/vnd.kubernetes.protobuf",
			Summary: "An object that the node is to act on, in the storage encoding: Kubernetes' protobuf envelope, or JSON of kinds that have none. Empty for all but set.",
			Headers: []Field{
				{Name: "Term", Type: "integer", Summary: "the leader's term; a lower one than was seen is ignored, a higher one means to pull the whole set"},
				{Name: "Sequence", Type: "integer", Summary: "of this node's messages; a gap means that something was lost. A mark repeats the newest"},
				{Name: "Action", Type: "string", Summary: "set, unset, mark, or dismiss: a process of another epoch is to stop"},
				{Name: "Key", Type: "string", Optional: true, Summary: "`group/resource/namespace/name`; of set and unset"},
				{Name: "Uid", Type: "string", Optional: true, Summary: "the object's UID; of set and unset"},
				{Name: "Version", Type: "integer", Optional: true, Summary: "a hash of what the node is to hold, part of the digest; of set and unset"},
				{Name: "Epoch", Type: "integer", Optional: true, Summary: "the node's current epoch, 0 if there is no such node; of dismiss"}}},
		{Name: "Heartbeat", ContentType: jsonType, Summary: "That a node lives.",
			Fields: []Field{epoch,
				{Name: "term", Type: "integer", Summary: "the term that the node last heard of"},
				{Name: "sequence", Type: "integer", Summary: "up to which the node has everything: an acknowledgement of all before"},
				{Name: "digest", Type: "integer", Summary: "sum of the versions that it holds, unsigned 64 bits"},
				{Name: "status", Type: "object", Summary: "the Node's status: conditions, capacity, addresses"}}},
		{Name: "Registration", ContentType: jsonType, Summary: "Who wants to be a node.",
			Fields: []Field{{Name: "node", Type: "object", Summary: "the Node object, of the caller's own name"}}},
		{Name: "Registered", ContentType: jsonType, Summary: "The node is admitted.", Fields: []Field{epoch, term}},
		{Name: "Observation", ContentType: jsonType, Summary: "What a node observed, up to 500 of each sort.",
			Fields: []Field{epoch,
				{Name: "batch", Type: "integer", Summary: "counts the calls of one epoch; one that was overtaken is refused"},
				{Name: "pods", Type: "array", Optional: true, Summary: "namespace, name, uid, status (what the node owns of it) and gone (a pod that was being deleted has ended)"},
				{Name: "events", Type: "array", Optional: true, Summary: "about, type, reason, message and timestamp"}}},
		{Name: "Observed", ContentType: jsonType, Summary: "All was committed, except what is named.",
			Fields: []Field{{Name: "again", Type: "array", Optional: true, Summary: "UIDs of pods whose status is to be sent again"}}},
		{Name: "Usage", ContentType: jsonType, Summary: "What a node uses. Each usage has startedAt (another one is another start), cpu (nanoseconds since then), memory (bytes held) and throttled (nanoseconds rested because of a limit).",
			Fields: []Field{epoch,
				{Name: "time", Type: "time", Summary: "when it was measured; parts of one measurement share it"},
				{Name: "node", Type: "object", Summary: "the usage of the node's own processes with all that runs in them"},
				{Name: "pods", Type: "array", Optional: true, Summary: "up to 1,000: uid and containers, each a name and its usage"}}},
		{Name: "Taken", ContentType: jsonType, Summary: "An empty object."},
		{Name: "Frames", ContentType: bytesType, Summary: "A stream of frames: four bytes of length, most significant first, and so many bytes of JSON with key, uid, version and object (base64 of the storage encoding); the last has term, sequence and last."},
		{Name: "Digest", ContentType: "text/plain", Summary: "A digest, `sha256:<hex>`."},
		{Name: "LogQuery", ContentType: jsonType, Summary: "Which lines of which container.",
			Fields: []Field{
				{Name: "Namespace", Type: "string", Summary: "of the pod"},
				{Name: "Pod", Type: "string", Summary: "its name"},
				{Name: "UID", Type: "string", Summary: "its UID"},
				{Name: "Container", Type: "string", Summary: "its container"},
				{Name: "Previous", Type: "boolean", Optional: true, Summary: "of the last terminated container"},
				{Name: "Follow", Type: "boolean", Optional: true, Summary: "until the log ends"},
				{Name: "Timestamps", Type: "boolean", Optional: true, Summary: "the time before each line"},
				{Name: "SinceTime", Type: "time", Optional: true, Summary: "no lines before"},
				{Name: "TailLines", Type: "integer", Optional: true, Summary: "only so many of the last lines"},
				{Name: "LimitBytes", Type: "integer", Optional: true, Summary: "at most so many bytes"}}},
	}
}

// cloudEvent returns the attributes that all events have.
func cloudEvent(kinds, id string) []Field {
	return []Field{
		{Name: "specversion", Type: "string", Summary: "1.0"},
		{Name: "id", Type: "string", Summary: id},
		{Name: "source", Type: "string", Summary: "the cluster, as a URI reference"},
		{Name: "type", Type: "string", Summary: kinds},
	}
}
