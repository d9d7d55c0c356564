package bus

import (
	"fmt"
	"strings"
)

// ownName stands in a [Grant] for the escaped name of whoever holds it.
const ownName = "<name>"

// Permissions is what an identity may publish and subscribe to: every
// implementation enforces the same, because all take it from [Subjects].
type Permissions struct {
	Publish   []string // patterns
	Subscribe []string // patterns
	// Respond permits publishing on the reply subject of a message received,
	// for [RespondFor] after it came.
	Respond bool
}

// PermissionsOf returns the permissions of an identity.
func PermissionsOf(who Identity) Permissions {
	return PermissionsTemplate(who.Role, Escape(who.Name))
}

// PermissionsTemplate returns the permissions of a role, with name put, as it
// is, in the place of the holder's escaped name.
func PermissionsTemplate(role Role, name string) Permissions {
	if role == RoleCore {
		return Permissions{Publish: []string{">"}, Subscribe: []string{">"}}
	}
	p := Permissions{Respond: role == RoleNode}
	for _, s := range Subjects() {
		p.Publish = appendGrants(p.Publish, s.Publish, role, name)
		p.Subscribe = appendGrants(p.Subscribe, s.Subscribe, role, name)
	}
	return p
}

func appendGrants(patterns []string, grants []Grant, role Role, name string) []string {
	for _, g := range grants {
		if g.Role == role {
			patterns = append(patterns, strings.ReplaceAll(g.Pattern, ownName, name))
		}
	}
	return patterns
}

// MayPublish tells whether a message may be published on subject, replies
// apart.
func (p Permissions) MayPublish(subject string) bool { return anyCovers(p.Publish, subject) }

// MaySubscribe tells whether pattern may be subscribed to: all subjects that
// it matches must be permitted.
func (p Permissions) MaySubscribe(pattern string) bool { return anyCovers(p.Subscribe, pattern) }

func anyCovers(patterns []string, pattern string) bool {
	for _, p := range patterns {
		if Covers(p, pattern) {
			return true
		}
	}
	return false
}

// Covers tells whether every subject that inner matches is matched by outer
// too; for an inner without wildcards that is whether outer matches it.
func Covers(outer, inner string) bool {
	for {
		o, orest, omore := strings.Cut(outer, ".")
		if o == ">" {
			return inner != ""
		}
		i, irest, imore := strings.Cut(inner, ".")
		if i == ">" || (o != "*" && o != i) || omore != imore {
			return false
		}
		if !omore {
			return true
		}
		outer, inner = orest, irest
	}
}

// CheckSubject says why a subject, or with wildcards permitted a pattern, is
// none.
func CheckSubject(subject string, wildcards bool) error {
	if subject == "" || len(subject) > maxSubject {
		return fmt.Errorf("subject %.40q: it must have 1 to %d bytes: %w", subject, maxSubject, ErrRefused)
	}
	for rest, more := subject, true; more; {
		var t string
		t, rest, more = strings.Cut(rest, ".")
		switch {
		case t == "" || strings.ContainsAny(t, " \t\r\n\f\x00"):
			return fmt.Errorf("subject %q: empty tokens and white space are not allowed: %w", subject, ErrRefused)
		case t == "*" && wildcards, t == ">" && wildcards && !more:
		case t == "*" || t == ">":
			return fmt.Errorf("subject %q: wildcard %q is not allowed there: %w", subject, t, ErrRefused)
		}
	}
	return nil
}

// maxSubject stays below the 4 KiB that a NATS control line may have, with
// room for a reply subject of the same length.
const maxSubject = 1500
