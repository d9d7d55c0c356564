package core

import "context"

// User is who asks. Groups decide what a user may do.
type User struct {
	Name   string
	UID    string
	Groups []string
}

// UserAnonymous is everyone who does not say who they are.
const UserAnonymous = "system:anonymous"

// Groups with a meaning of their own.
const (
	// GroupAdmins may do everything.
	GroupAdmins = "system:masters"
	// GroupReaders may get, list and watch everything but Secrets.
	GroupReaders = "weft:readers"
	// GroupAuthenticated holds everyone who has a name.
	GroupAuthenticated = "system:authenticated"
	// GroupUnauthenticated holds UserAnonymous alone, who may ask whether the
	// server works, and which version it is.
	GroupUnauthenticated = "system:unauthenticated"
	// GroupCores holds the cores themselves. What one of them forwards is done
	// as the user that it names, and as nobody else.
	GroupCores = "weft:cores"
)

// Headers by which a core that forwards a request names who sent it, as in
// Kubernetes' authenticating proxy. They count on connections of GroupCores
// alone.
const (
	HeaderRemoteUser  = "X-Remote-User"
	HeaderRemoteUID   = "X-Remote-Uid"
	HeaderRemoteGroup = "X-Remote-Group"
)

// System returns the user as which a part of the core acts, such as
// "system:weft:scheduler".
func System(part string) User {
	return User{Name: "system:weft:" + part, Groups: []string{GroupAdmins, GroupAuthenticated}}
}

type userKey struct{}

// WithUser returns ctx carrying who asks.
func WithUser(ctx context.Context, user User) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// UserFrom returns who asks, and false when nobody was named.
func UserFrom(ctx context.Context) (User, bool) {
	user, ok := ctx.Value(userKey{}).(User)
	return user, ok
}
