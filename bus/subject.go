package bus

import (
	"fmt"
	"net/url"
	"strings"
)

const (
	root    = "weft"
	version = "v1"
	prefix  = root + "." + version + "."

	// CoreGroup is how subjects name the core API group, whose name is empty.
	CoreGroup = "core"
	// NoNamespace stands for the namespace of cluster-scoped objects.
	NoNamespace = "_"
	// AllNodes stands for a node's name in what every node is to receive.
	AllNodes = "_all"
	// BookmarkName stands for an object's name in the bookmarks of a namespace.
	BookmarkName = "_bookmark"
)

var escaper = strings.NewReplacer("%", "%25", ".", "%2E", "*", "%2A", ">", "%3E", " ", "%20", "\t", "%09", "\r", "%0D", "\n", "%0A")

// Escape makes one token of a subject of a name by percent-encoding what
// subjects give a meaning to.
func Escape(name string) string { return escaper.Replace(name) }

// Unescape is Escape's inverse.
func Unescape(token string) (string, error) {
	name, err := url.PathUnescape(token)
	if err != nil {
		return "", fmt.Errorf("subject token %q: %w", token, err)
	}
	return name, nil
}

func token(name, empty string) string {
	if name == "" {
		return empty
	}
	return Escape(name)
}

// DesiredSubject is where a core publishes an object, or its tombstone, that
// node is to act on. AllNodes as node addresses every node.
func DesiredSubject(node, resource, uid string) string {
	if node != AllNodes {
		node = Escape(node)
	}
	return prefix + "desired." + node + "." + Escape(resource) + "." + Escape(uid)
}

// EventSubject is where a core publishes a change of an object, after it is
// committed. An empty group is the core group, an empty namespace none.
func EventSubject(group, resource, namespace, name string) string {
	return prefix + "event." + token(group, CoreGroup) + "." + Escape(resource) + "." + token(namespace, NoNamespace) + "." + Escape(name)
}

// BookmarkSubject is where a core publishes, time and again, the newest
// revision of a resource in a namespace.
func BookmarkSubject(group, resource, namespace string) string {
	return prefix + "event." + token(group, CoreGroup) + "." + Escape(resource) + "." + token(namespace, NoNamespace) + "." + BookmarkName
}

// HeartbeatSubject is where a node says that it is alive and what it holds.
func HeartbeatSubject(node string) string { return prefix + "heartbeat." + Escape(node) }

// APISubject is where the identity sends a request of that method to a core.
func APISubject(who Identity, method string) string {
	return prefix + "api." + string(who.Role) + "." + Escape(who.Name) + "." + Escape(method)
}

// NodeSubject is where a core sends a request of that method to a node.
func NodeSubject(node, method string) string {
	return prefix + "node." + Escape(node) + "." + Escape(method)
}

// Patterns to subscribe to or to serve.
const (
	AllEvents     = prefix + "event.>"
	AllHeartbeats = prefix + "heartbeat.*"
	AllAPI        = prefix + "api.>"
)

// APIPattern matches the requests of that method from every identity of role.
func APIPattern(role Role, method string) string {
	return prefix + "api." + string(role) + ".*." + Escape(method)
}

// NodePattern matches all requests that cores send to a node.
func NodePattern(node string) string { return prefix + "node." + Escape(node) + ".>" }

// DesiredPattern matches all that is desired of node; AllNodes matches what is
// desired of every node.
func DesiredPattern(node string) string {
	if node != AllNodes {
		node = Escape(node)
	}
	return prefix + "desired." + node + ".>"
}

// Tokens splits a subject of Weft after its version and unescapes each token.
// It returns nil for a subject that is not Weft's.
func Tokens(subject string) []string {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return nil
	}
	tokens := strings.Split(rest, ".")
	for i, t := range tokens {
		name, err := Unescape(t)
		if err != nil {
			return nil
		}
		tokens[i] = name
	}
	return tokens
}
