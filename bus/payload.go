package bus

// Payload describes what travels on a subject. Whoever builds a sender or a
// receiver corrects it here; the documents are generated from it.
type Payload struct {
	Name    string
	Summary string
	// ContentType of Data.
	ContentType string
	Fields      []Field
}

// Field is one member of a payload that is a JSON object.
type Field struct {
	Name string
	// Type is one of string, integer, number, boolean, object, array, bytes
	// (base64), time (RFC 3339).
	Type     string
	Optional bool
	Summary  string
}

// Payloads returns the payloads that Subjects name.
func Payloads() []Payload {
	const json, cloud, opaque = "application/json", "application/cloudevents+json", "application/octet-stream"
	return []Payload{
		{Name: "Event", ContentType: cloud, Summary: "A CloudEvents 1.0 event of one committed change.",
			Fields: append(cloudEvent("run.weft.object.added.v1, run.weft.object.modified.v1 or run.weft.object.deleted.v1"),
				Field{Name: "subject", Type: "string", Summary: "`resource/namespace/name` of the object; no namespace is `_`"},
				Field{Name: "weftrevision", Type: "string", Summary: "the object's resourceVersion after the change"},
				Field{Name: "weftprevious", Type: "string", Summary: "the revision before it of the same resource and namespace: another than was seen last is a gap"},
				Field{Name: "weftterm", Type: "string", Summary: "the leader's term; revisions of different terms still compare"},
				Field{Name: "dataref", Type: "string", Optional: true, Summary: "the API path of an object too large for data"},
				Field{Name: "data", Type: "object", Optional: true, Summary: "the object as the API shows it; of a Secret only apiVersion, kind and metadata"})},
		{Name: "Bookmark", ContentType: cloud, Summary: "A CloudEvents 1.0 event that says how far a resource has come in a namespace.",
			Fields: append(cloudEvent("run.weft.bookmark.v1"),
				Field{Name: "weftrevision", Type: "string", Summary: "the newest revision of the resource in the namespace"},
				Field{Name: "weftterm", Type: "string", Summary: "the leader's term"})},
		{Name: "Desired", ContentType: json, Summary: "An object that the node is to act on, or a tombstone.",
			Fields: []Field{
				{Name: "term", Type: "integer", Summary: "the leader's term; a lower one than was seen is ignored"},
				{Name: "sequence", Type: "integer", Summary: "of this node, or of all nodes; a gap means that something was lost"},
				{Name: "deleted", Type: "boolean", Optional: true, Summary: "a tombstone: stop it and forget it"},
				{Name: "object", Type: "object", Summary: "the whole object; of a tombstone its metadata"}}},
		{Name: "Observed", ContentType: json, Summary: "The status that a node saw.",
			Fields: []Field{
				{Name: "epoch", Type: "integer", Summary: "the node's epoch, as given at registration; the higher wins"},
				{Name: "sequence", Type: "integer", Summary: "of this node's reports"},
				{Name: "object", Type: "object", Summary: "apiVersion, kind, metadata and status"}}},
		{Name: "Heartbeat", ContentType: json, Summary: "That a node lives.",
			Fields: []Field{
				{Name: "epoch", Type: "integer", Summary: "the node's epoch"},
				{Name: "applied", Type: "integer", Summary: "the node's own sequence up to which it has everything"},
				{Name: "appliedAll", Type: "integer", Summary: "the same of the sequence for all nodes"},
				{Name: "digest", Type: "string", Summary: "order-free digest of the UIDs and revisions that it holds"},
				{Name: "load", Type: "object", Optional: true, Summary: "CPU, memory and pods in use"}}},
		{Name: "LogBatch", ContentType: opaque, Summary: "Packed log lines with an index of containers."},
		{Name: "Tail", ContentType: opaque, Summary: "Log lines as the container wrote them, each with its line break."},
		{Name: "Request", ContentType: json, Summary: "A request, or the opening of a stream when the header Weft-Stream is set. The content depends on the method."},
		{Name: "Reply", ContentType: opaque, Summary: "A reply; with the header Weft-Error its data is the reason of a failure. Or a frame of a stream: one byte of kind, the frame's number as a varint, the content."},
	}
}

// cloudEvent returns the attributes that all events have.
func cloudEvent(kinds string) []Field {
	return []Field{
		{Name: "specversion", Type: "string", Summary: "1.0"},
		{Name: "id", Type: "string", Summary: "unique with source"},
		{Name: "source", Type: "string", Summary: "the cluster, as a URI reference"},
		{Name: "type", Type: "string", Summary: kinds},
		{Name: "time", Type: "time", Summary: "when it was committed"},
		{Name: "datacontenttype", Type: "string", Optional: true, Summary: "application/json"},
	}
}
