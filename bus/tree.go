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
	// Reply names the entry of what a request is answered with; empty for what
	// is no request.
	Reply string
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
			Summary:   "What the node is to run or to know, with the node's own sequence. On `desired.<node>.nodes._mark` the newest number comes once more when it is quiet.",
			Subscribe: node("desired." + ownName + ".>")},
		{Name: "desiredAll", Pattern: prefix + "desired." + AllNodes + ".<resource>.<uid>", From: "core", To: "every node", Payload: "Desired",
			Summary:   "Kept for what every node needs, with one sequence of its own: Services, EndpointSlices, policies.",
			Subscribe: node("desired." + AllNodes + ".>")},
		{Name: "event", Pattern: prefix + "event.<group>.<resource>.<namespace>.<name>", From: "core", To: "anyone", Payload: "Event",
			Summary:   "A committed change. A subscriber notices a gap by the previous revision, and resumes by a request.",
			Subscribe: observer("event.>")},
		{Name: "bookmark", Pattern: prefix + "event.<group>.<resource>.<namespace>." + BookmarkName, From: "core", To: "anyone", Payload: "Bookmark",
			Summary: "The newest revision of a resource in a namespace, each second while it changes and each ten seconds otherwise, so that a lost last event is noticed."},
		{Name: "heartbeat", Pattern: prefix + "heartbeat.<node>", From: "node", To: "core", Payload: "Heartbeat",
			Summary: "That the node lives, what it has applied and what it holds.",
			Publish: node("heartbeat." + ownName)},
		{Name: "apiNode", Pattern: prefix + "api.node.<node>.<method>", From: "node", To: "core", Payload: "Request", Reply: "Reply",
			Summary: "Requests and streams of a node under its own rights; the methods follow.",
			Publish: node("api.node." + ownName + ".>")},
		{Name: "register", Pattern: prefix + "api.node.<node>.register", From: "node", To: "core", Payload: "Registration", Reply: "Registered",
			Summary: "The node is admitted and given its epoch."},
		{Name: "observe", Pattern: prefix + "api.node.<node>.observe", From: "node", To: "core", Payload: "Observation", Reply: "Observed",
			Summary: "A batch of what the node observed, acknowledged by the reply when it is committed; sent again until then, the newest only."},
		{Name: "usage", Pattern: prefix + "api.node.<node>.usage", From: "node", To: "core", Payload: "Usage", Reply: "Taken",
			Summary: "What the node and its pods have used until now, each 10 seconds; not sent again."},
		{Name: "sync", Pattern: prefix + "api.node.<node>.sync", From: "node", To: "core", Payload: "Request", Reply: "Frames",
			Summary: "A stream: the whole of what is desired of the node, after a gap or a change of cores."},
		{Name: "blob", Pattern: prefix + "api.node.<node>.blob", From: "node", To: "core", Payload: "Digest", Reply: "Content",
			Summary: "A stream: content of the cluster's own store, such as a module."},
		{Name: "apiObserver", Pattern: prefix + "api.observer.<name>.<method>", From: "observer", To: "core", Payload: "Request", Reply: "Reply",
			Summary: "Read-only requests of a tool under its own rights; the methods follow. Each is one message, answered by one.",
			Publish: observer("api.observer." + ownName + ".>")},
		{Name: "kinds", Pattern: prefix + "api.observer.<name>.kinds", From: "observer", To: "core", Payload: "Request", Reply: "KindList",
			Summary: "What can be asked for, and what has events."},
		{Name: "list", Pattern: prefix + "api.observer.<name>.list", From: "observer", To: "core", Payload: "ListRequest", Reply: "Page",
			Summary: "Objects, page by page."},
		{Name: "get", Pattern: prefix + "api.observer.<name>.get", From: "observer", To: "core", Payload: "GetRequest", Reply: "Single",
			Summary: "One object, whole: also one that events and pages only refer to."},
		{Name: "resume", Pattern: prefix + "api.observer.<name>.resume", From: "observer", To: "core", Payload: "ResumeRequest", Reply: "Resumed",
			Summary: "The events after a revision. Code 410 says that they are no longer kept: list again."},
		{Name: "node", Pattern: prefix + "node.<node>.<method>", From: "core", To: "node", Payload: "Request", Reply: "Reply",
			Summary:   "Requests and streams that a core opens to a node; the methods follow. The node may answer.",
			Subscribe: node("node." + ownName + ".>")},
		{Name: "logs", Pattern: prefix + "node.<node>.logs", From: "core", To: "node", Payload: "LogQuery", Reply: "Content",
			Summary: "A stream: log lines of a container, as it wrote them."},
		{Name: "inbox", Pattern: "_INBOX.<role>.<name>.>", From: "core", To: "its owner", Payload: "Reply",
			Summary: "Replies and stream frames. Nodes may publish there only in answer to a request that they received.",
			Subscribe: []Grant{{RoleNode, "_INBOX.node." + ownName + ".>"},
				{RoleObserver, "_INBOX.observer." + ownName + ".>"}}},
		{Name: "leader", Pattern: LeaderSubject, From: "core", To: "core", Payload: "Leader",
			Summary: "Which core leads: when it begins to, each half second, and when it resigns. Cores that stand by forward requests there. No other role may touch it."},
		{Name: "wal", Pattern: walPrefix + "<log>", From: "core", To: "its stream",
			Summary: "Records of the durable logs, encrypted by the core. No other role may touch it."},
		{Name: "lease", Pattern: leasePrefix + "<lease>", From: "core", To: "its stream",
			Summary: "Who holds a lease, such as that of the leader. No other role may touch it."},
	}
}

// LeaderSubject is where the core that leads says so.
const LeaderSubject = prefix + "leader"

const (
	walPrefix   = prefix + "wal."
	leasePrefix = prefix + "lease."
)

// RecordSubject is where the records of a log are kept.
func RecordSubject(log string) string { return walPrefix + Escape(log) }

// LeaseSubject is where a lease is kept.
func LeaseSubject(name string) string { return leasePrefix + Escape(name) }
