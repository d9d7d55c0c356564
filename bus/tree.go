package bus

import "time"

// RespondFor is how long after a request a node may still answer it; each
// frame of a stream that reaches the node extends it.
const RespondFor = 2 * time.Minute

// Subject is one row of the subject tree. The tables in docs/bus.md and
// docs/asyncapi.yaml are generated from it.
type Subject struct {
	// Name identifies the row in the generated documents.
	Name string
	// Pattern shows the subject with its parts in angle brackets.
	Pattern string
	// From and To say who publishes and who receives.
	From, To string
	// Payload names an entry of [Payloads]; empty when it is free.
	Payload string
	// Summary is one or two sentences.
	Summary string
	// Publish and Subscribe are the rights of the roles other than core,
	// which has all.
	Publish, Subscribe []Grant
}

// Grant permits a role a pattern, in which <name> stands for the escaped name
// of the holder.
type Grant struct {
	Role    Role
	Pattern string
}

// Subjects returns the whole subject tree, from which every implementation
// takes its permissions.
func Subjects() []Subject {
	node := func(pattern string) []Grant { return []Grant{{RoleNode, prefix + pattern}} }
	observer := func(pattern string) []Grant { return []Grant{{RoleObserver, prefix + pattern}} }
	return []Subject{
		{Name: "desired", Pattern: prefix + "desired.<node>.<resource>.<uid>", From: "core", To: "node", Payload: "Desired",
			Summary:   "What the node is to run or to know, with the node's own sequence.",
			Subscribe: node("desired." + ownName + ".>")},
		{Name: "desiredAll", Pattern: prefix + "desired." + AllNodes + ".<resource>.<uid>", From: "core", To: "every node", Payload: "Desired",
			Summary:   "What every node needs: Services, EndpointSlices, policies. It has one sequence of its own.",
			Subscribe: node("desired." + AllNodes + ".>")},
		{Name: "event", Pattern: prefix + "event.<group>.<resource>.<namespace>.<name>", From: "core", To: "anyone", Payload: "Event",
			Summary:   "A committed change. A subscriber notices a gap by the previous revision, and resumes by a request.",
			Subscribe: observer("event.>")},
		{Name: "bookmark", Pattern: prefix + "event.<group>.<resource>.<namespace>." + BookmarkName, From: "core", To: "anyone", Payload: "Bookmark",
			Summary: "The newest revision of a resource in a namespace, each second, so that a lost last event is noticed."},
		{Name: "observed", Pattern: prefix + "observed.<node>.<resource>.<uid>", From: "node", To: "core", Payload: "Observed",
			Summary: "Status only; sent again until acknowledged, whole after a reconnect.",
			Publish: node("observed." + ownName + ".>")},
		{Name: "heartbeat", Pattern: prefix + "heartbeat.<node>", From: "node", To: "core", Payload: "Heartbeat",
			Summary: "That the node lives, what it has applied and what it holds.",
			Publish: node("heartbeat." + ownName)},
		{Name: "log", Pattern: prefix + "log.<node>", From: "node", To: "core", Payload: "LogBatch",
			Summary: "Batches of log lines to be kept beyond the pod.",
			Publish: node("log." + ownName)},
		{Name: "tail", Pattern: prefix + "tail.<namespace>.<pod>.<container>", From: "node", To: "anyone", Payload: "Tail",
			Summary:   "Live log lines, only while someone listens. The subject does not name the node, so any node could write here.",
			Publish:   node("tail.>"),
			Subscribe: observer("tail.>")},
		{Name: "apiNode", Pattern: prefix + "api.node.<node>.<method>", From: "node", To: "core", Payload: "Request",
			Summary: "Requests and streams of a node under its own rights.",
			Publish: node("api.node." + ownName + ".>")},
		{Name: "apiObserver", Pattern: prefix + "api.observer.<name>.<method>", From: "observer", To: "core", Payload: "Request",
			Summary: "Read-only requests and streams of a tool under its own rights.",
			Publish: observer("api.observer." + ownName + ".>")},
		{Name: "node", Pattern: prefix + "node.<node>.<method>", From: "core", To: "node", Payload: "Request",
			Summary:   "Requests and streams that a core opens to a node: logs, exec, port-forward, resync. The node may answer.",
			Subscribe: node("node." + ownName + ".>")},
		{Name: "inbox", Pattern: "_INBOX.<role>.<name>.>", From: "core", To: "its owner", Payload: "Reply",
			Summary: "Replies and stream frames. Nodes may publish there only in answer to a request that they received.",
			Subscribe: []Grant{{RoleNode, "_INBOX.node." + ownName + ".>"},
				{RoleObserver, "_INBOX.observer." + ownName + ".>"}}},
		{Name: "wal", Pattern: walPrefix + "<log>", From: "core", To: "its stream",
			Summary: "Records of the durable logs, encrypted by the core. No other role may touch it."},
		{Name: "lease", Pattern: leasePrefix + "<lease>", From: "core", To: "its stream",
			Summary: "Who holds a lease, such as that of the leader. No other role may touch it."},
	}
}

const (
	walPrefix   = prefix + "wal."
	leasePrefix = prefix + "lease."
)

// RecordSubject is where the records of a log are kept.
func RecordSubject(log string) string { return walPrefix + Escape(log) }

// LeaseSubject is where a lease is kept.
func LeaseSubject(name string) string { return leasePrefix + Escape(name) }
