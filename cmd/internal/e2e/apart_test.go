package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// brief tolerations have pods evicted two seconds after their node is known to
// be gone.
const brief = `
[[spec.template.spec.tolerations]]
key = "node.kubernetes.io/unreachable"
operator = "Exists"
effect = "NoExecute"
tolerationSeconds = 1
[[spec.template.spec.tolerations]]
key = "node.kubernetes.io/not-ready"
operator = "Exists"
effect = "NoExecute"
tolerationSeconds = 1
[[spec.template.spec.topologySpreadConstraints]]
maxSkew = 1
topologyKey = "kubernetes.io/hostname"
whenUnsatisfiable = "ScheduleAnyway"
labelSelector = { matchLabels = { app = "web" } }
`

// nodeReady waits for a node's Ready condition to have a status.
func (c *cluster) nodeReady(name string, want corev1.ConditionStatus) {
	c.t.Helper()
	var node corev1.Node
	c.awaitOr(func() bool {
		var err error
		node, err = get[corev1.Node](c, "node", name)
		return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == want
		})
	}, func() string { return fmt.Sprintf("node %s is not Ready=%s: %+v", name, want, node.Status.Conditions) })
}

// agent returns the process of a node's agent.
func (c *cluster) agent(name string) process {
	c.t.Helper()
	return c.only("weft node --name " + name)
}

// TestApart runs a core and two nodes as processes of their own, and kills
// them one after the other.
func TestApart(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	c := member(t, data, "core")
	c.said("core is ready")
	member(t, data, "node", "--name", "a")
	b := member(t, data, "node", "--name", "b")
	c.nodeReady("a", corev1.ConditionTrue)
	c.nodeReady("b", corev1.ConditionTrue)
	member(t, data, "node", "--name", "b").endsWith(1, "a node of this name already runs on")
	c.apply(park("web", 4, brief))
	before := c.pods("app=web", ready(4))
	on := map[string]int{}
	for _, p := range before {
		on[p.Spec.NodeName]++
	}
	if on["a"] == 0 || on["b"] == 0 {
		t.Errorf("the pods are not on both nodes: %v", on)
	}

	t.Log("the core")
	written := map[string]bool{}
	for i := range 10 {
		name := fmt.Sprintf("written-%d", i)
		c.must("create", "configmap", name)
		written["configmap/"+name] = true
	}
	c.kill9(c.only("weft core"))
	c.gone()
	c = member(t, data, "core")
	c.said("core is ready")
	for name := range strings.FieldsSeq(c.must("get", "configmaps", "-o", "name")) {
		delete(written, name)
	}
	if len(written) > 0 {
		t.Errorf("lost in the crash: %v", written)
	}
	c.nodeReady("a", corev1.ConditionTrue)
	c.nodeReady("b", corev1.ConditionTrue)
	c.must("scale", "deployment", "web", "--replicas=5")
	after := c.pods("app=web", ready(5))
	same(t, before, slices.DeleteFunc(after, func(p corev1.Pod) bool {
		return !slices.ContainsFunc(before, func(old corev1.Pod) bool { return old.UID == p.UID })
	}))

	t.Log("an agent, whose executors live on")
	c.apply(park("own", 2, `runtimeClassName = "isolated"`))
	own := c.pods("app=own", ready(2))
	before = c.pods("app=web", ready(5))
	c.kill9(c.agent("a"))
	member(t, data, "node", "--name", "a").said("node registered")
	c.nodeReady("a", corev1.ConditionTrue)
	same(t, own, c.pods("app=own", ready(2)))
	c.must("delete", "deployment", "own")
	c.must("scale", "deployment", "web", "--replicas=7")
	after = c.pods("app=web", ready(7))
	same(t, before, slices.DeleteFunc(after, func(p corev1.Pod) bool {
		return !slices.ContainsFunc(before, func(old corev1.Pod) bool { return old.UID == p.UID })
	}))

	t.Log("a node, for good")
	c.kill9(c.agent("b"))
	b.gone()
	c.nodeReady("b", corev1.ConditionUnknown)
	c.await("seven pods on the node that is left", func() bool {
		list, err := get[corev1.PodList](c, "pods", "-l", "app=web")
		running := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
			return p.DeletionTimestamp != nil || p.Spec.NodeName != "a" || !isReady(&p)
		})
		return err == nil && len(running) == 7
	})
}
