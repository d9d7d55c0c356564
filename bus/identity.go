package bus

import (
	"context"
	"fmt"
	"strings"
	"unicode"
)

// Role says what a connection may do. The carrier enforces it.
type Role string

// The roles. A core may do everything. A node may publish its heartbeat under
// its own name, receive what is desired of it, call its own api subjects, and
// answer what cores ask it. An observer may receive events, call its own api
// subjects, and publish nothing else.
const (
	RoleCore     Role = "core"
	RoleNode     Role = "node"
	RoleObserver Role = "observer"
)

// Roles lists the roles in the order of their power.
var Roles = []Role{RoleCore, RoleNode, RoleObserver}

// Identity is who a connection is: a role and a name that is unique in it.
type Identity struct {
	Role Role
	Name string
}

// Inbox is the prefix, without a final dot, of all subjects on which this
// identity receives replies and stream frames. No other identity but a core
// may subscribe to it.
func (i Identity) Inbox() string {
	return "_INBOX." + string(i.Role) + "." + Escape(i.Name)
}

func (i Identity) String() string { return string(i.Role) + "/" + i.Name }

// Validate says what is wrong with the identity.
func (i Identity) Validate() error {
	switch i.Role {
	case RoleCore, RoleNode, RoleObserver:
	default:
		return fmt.Errorf("identity %q: role %q is not one of %q", i, i.Role, Roles)
	}
	if i.Name == "" || len(i.Name) > 253 {
		return fmt.Errorf("identity %q: the name must have 1 to 253 bytes", i)
	}
	if i.Name == AllNodes || strings.ContainsFunc(i.Name, unicode.IsControl) {
		return fmt.Errorf("identity %q: the name must not be %q nor hold control characters", i, AllNodes)
	}
	return nil
}

// SubjectCaller returns the identity that a request's subject names: only
// that identity (and a core) is permitted to publish on
// weft.v1.api.<role>.<name>.>. On the subject of heartbeats it is the node that
// it names. A subject of any other form, such as those on which cores call
// nodes, can only come from a core.
func SubjectCaller(subject string) Identity {
	t := strings.Split(subject, ".")
	if len(t) < 4 || t[0] != root || t[1] != version {
		return Identity{Role: RoleCore}
	}
	role, name := RoleNode, t[3]
	switch t[2] {
	case "api":
		if len(t) < 6 {
			return Identity{Role: RoleCore}
		}
		role, name = Role(t[3]), t[4]
	case "heartbeat":
	default:
		return Identity{Role: RoleCore}
	}
	name, err := Unescape(name)
	if err != nil {
		return Identity{}
	}
	return Identity{Role: role, Name: name}
}

// ReplyBelongs tells whether a reply subject lies in the inbox of whoever may
// have sent a request on subject. Every responder refuses others.
func ReplyBelongs(subject, reply string) bool {
	caller := SubjectCaller(subject)
	if caller.Role == "" {
		return false
	}
	if caller.Role == RoleCore {
		return strings.HasPrefix(reply, "_INBOX."+string(RoleCore)+".")
	}
	return strings.HasPrefix(reply, caller.Inbox()+".")
}

type callerKey struct{}

// WithCaller is for implementations: it returns ctx carrying the caller of
// the request being handled.
func WithCaller(ctx context.Context, caller Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Caller returns who sent the request that a CallHandler or StreamHandler
// serves; the zero Identity elsewhere.
func Caller(ctx context.Context) Identity {
	caller, _ := ctx.Value(callerKey{}).(Identity)
	return caller
}
