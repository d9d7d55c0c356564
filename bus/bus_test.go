package bus_test

import (
	"strings"
	"testing"

	"github.com/weftrun/weft/bus"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a.b", "a", false}, {"a", "a.b", false},
		{"a.*", "a.b", true}, {"a.*", "a.*", true}, {"a.*", "a.b.c", false}, {"a.*", "a.>", false}, {"a.*", "a", false},
		{"a.>", "a.b.c", true}, {"a.>", "a.>", true}, {"a.>", "a.*", true}, {"a.>", "a", false}, {"a.>", ">", false},
		{">", "a", true}, {">", ">", true}, {"*", ">", false}, {"a.b", "a.*", false}, {"*.b", "a.b", true}, {"*.b", "a.*", false},
	} {
		if got := bus.Covers(c.outer, c.inner); got != c.want {
			t.Errorf("Covers(%q, %q) = %v", c.outer, c.inner, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a", "a.b", "100%", "%2E", "a b", "*", ">", "ü", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token := bus.Escape(name)
		if got, err := bus.Unescape(token); err != nil || got != name {
			t.Errorf("%q became %q, then %q (%v)", name, token, got, err)
		}
		if strings.ContainsAny(token, ".*> \t\r\n") {
			t.Errorf("%q became %q", name, token)
		}
	})
}

// FuzzReplyBelongs checks that whoever may publish a request can only have it
// answered in an inbox of its own.
func FuzzReplyBelongs(f *testing.F) {
	f.Add("weft.v1.api.node.n1.list", "_INBOX.node.n1.x")
	f.Add("weft.v1.api.node.n1.list", "_INBOX.node.n12.x")
	f.Add("weft.v1.api.node.n1.list", "$JS.API.STREAM.DELETE.WAL")
	f.Add("weft.v1.observed.n1.pods.x", "_INBOX.core.core-1.x")
	f.Add("weft.v1.tail.n1.pods.x", "_INBOX.core.core-1.x")
	f.Add("weft.v1.heartbeat.n1", "_INBOX.core.core-1.x")
	f.Add("weft.v1.api.node.n1", "_INBOX.core.core-1.x")
	who := []bus.Identity{{Role: bus.RoleNode, Name: "n1"}, {Role: bus.RoleObserver, Name: "tool"}}
	f.Fuzz(func(t *testing.T, subject, reply string) {
		if bus.CheckSubject(subject, false) != nil {
			return
		}
		for _, w := range who {
			if bus.PermissionsOf(w).MayPublish(subject) && bus.ReplyBelongs(subject, reply) && !strings.HasPrefix(reply, w.Inbox()+".") {
				t.Errorf("%s may have %s answered on %s", w, subject, reply)
			}
		}
	})
}

func TestIdentityValidate(t *testing.T) {
	for _, bad := range []bus.Identity{{}, {Role: "root", Name: "x"}, {Role: bus.RoleNode}, {Role: bus.RoleNode, Name: bus.AllNodes},
		{Role: bus.RoleNode, Name: "a\x00b"}, {Role: bus.RoleNode, Name: strings.Repeat("x", 254)}} {
		if bad.Validate() == nil {
			t.Errorf("%q is valid", bad)
		}
	}
	if err := (bus.Identity{Role: bus.RoleCore, Name: "core-1.example.org"}).Validate(); err != nil {
		t.Error(err)
	}
}
