package bustest

import (
	"testing"

	"github.com/weftrun/weft/bus"
)

// ForbiddenPublish are subjects on which an identity must not publish, and
// ForbiddenSubscribe patterns to which it must not subscribe.
func ForbiddenPublish(who bus.Identity) []string {
	all := []string{
		bus.DesiredSubject(who.Name, "pods", "uid"), bus.DesiredSubject("n2", "pods", "uid"), bus.DesiredSubject(bus.AllNodes, "services", "uid"),
		bus.EventSubject("", "pods", "default", "a"), bus.BookmarkSubject("", "pods", "default"),
		bus.HeartbeatSubject("n2"), bus.HeartbeatSubject("n2") + ".x", bus.HeartbeatSubject(who.Name) + ".x",
		"weft.v1.observed." + who.Name + ".pods.uid", "weft.v1.log." + who.Name, "weft.v1.tail.ns.pod.c",
		bus.APISubject(bus.Identity{Role: bus.RoleNode, Name: "n2"}, "list"),
		bus.APISubject(bus.Identity{Role: bus.RoleObserver, Name: "other"}, "list"),
		bus.APISubject(Core, "list"), "weft.v1.api." + string(who.Role) + "." + who.Name,
		bus.NodeSubject("n2", "exec"), bus.NodeSubject(who.Name, "exec"),
		who.Inbox() + ".x", Core.Inbox() + ".x", bus.Identity{Role: bus.RoleNode, Name: "n2"}.Inbox() + ".x",
		bus.RecordSubject("WAL"), bus.LeaseSubject("leader"), "weft.v1.unknown", "anything",
		"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.DELETE.WAL", "$JS.API.STREAM.PURGE.WAL",
		"$JS.API.STREAM.MSG.GET.WAL", "$JS.API.DIRECT.GET.WAL", "$JS.API.CONSUMER.CREATE.WAL", "$JS.API.CONSUMER.MSG.NEXT.WAL.x",
		"$JS.ACK.WAL.x.1.1.1.1.1", "$JS.FC.x", "$KV.x.y", "$O.BLOBS.M.x", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO.X", "$SRV.PING",
	}
	if who.Role == bus.RoleObserver {
		all = append(all, bus.HeartbeatSubject(who.Name))
	}
	return all
}

// ForbiddenSubscribe returns subjects that who must not subscribe to.
func ForbiddenSubscribe(who bus.Identity) []string {
	all := []string{
		">", "*", "*.>", "weft.>", "weft.v1.>", "weft.v1.*.>", bus.AllHeartbeats, bus.AllAPI, "weft.v1.observed.>", "weft.v1.log.*", "weft.v1.tail.>",
		"weft.v1.desired.>", "weft.v1.desired.*.>", bus.DesiredPattern("n2"), "weft.v1.node.>", "weft.v1.node.n2.>",
		"_INBOX.>", "_INBOX.core.>", "_INBOX.*.*.>", "_INBOX." + string(who.Role) + ".>", "_INBOX." + string(who.Role) + ".*.>",
		bus.Identity{Role: bus.RoleNode, Name: "n2"}.Inbox() + ".>", bus.Identity{Role: bus.RoleObserver, Name: "other"}.Inbox() + ".>",
		"weft.v1.api." + string(who.Role) + "." + who.Name + ".>",
		"weft.v1.wal.>", "weft.v1.lease.>", "$JS.API.>", "$JS.>", "$JS.EVENT.>", "$KV.>", "$O.>", "$SYS.>",
	}
	if who.Role == bus.RoleObserver {
		return append(all, bus.DesiredPattern(bus.AllNodes), bus.DesiredPattern(who.Name), "weft.v1.node."+who.Name+".>")
	}
	return append(all, bus.AllEvents)
}

func forbiddenCases() []Case {
	return []Case{
		{"forbidden/publish and subscribe", func(t *testing.T, connect func(bus.Identity) bus.Bus) {
			for _, who := range []bus.Identity{Node, Observer} {
				b := connect(who)
				for _, subject := range ForbiddenPublish(who) {
					m := bus.Message{Subject: subject}
					wantError(t, b.Publish(within(t), m), bus.ErrRefused)
					_, err := b.Call(within(t), m)
					wantError(t, err, bus.ErrRefused)
					_, err = b.Open(within(t), m)
					wantError(t, err, bus.ErrRefused)
				}
				for _, pattern := range ForbiddenSubscribe(who) {
					_, err := b.Subscribe(within(t), pattern, func(bus.Message) {})
					wantError(t, err, bus.ErrRefused)
					_, err = b.Serve(within(t), pattern, echo)
					wantError(t, err, bus.ErrRefused)
				}
			}
		}},
	}
}
