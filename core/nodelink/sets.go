package nodelink

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

// nodeSet is what one node is to hold.
type nodeSet struct {
	sequence     uint64 // of the last message
	acknowledged uint64 // as the last heartbeat said
	published    time.Time
	marks        int // sent since the last message
	held         map[core.Key]item
	digest       digest
}

type item struct {
	uid      types.UID
	version  uint64
	revision int64
	refs     []core.Key // of a pod
}

func (s *nodeSet) put(key core.Key, i item) {
	s.digest += digest(i.version) - digest(s.held[key].version)
	s.held[key] = i
}

func (s *nodeSet) drop(key core.Key) {
	s.digest -= digest(s.held[key].version)
	delete(s.held, key)
}

// forget empties the set and leaves a gap in the numbers, so that the node
// pulls whatever the set will be.
func (s *nodeSet) forget() {
	clear(s.held)
	s.digest = 0
	s.gap()
}

// gap leaves out a number, so that the node pulls when it hears the next.
func (s *nodeSet) gap() {
	s.sequence += 2
	s.published, s.marks = time.Now(), 0
}

// set returns a node's set. The caller holds the lock, here and below.
func (h *Hub) set(node string) *nodeSet {
	s := h.nodes[node]
	if s == nil {
		s = &nodeSet{held: map[core.Key]item{}}
		h.nodes[node] = s
	}
	return s
}

func podOf(object core.Object) *corev1.Pod {
	pod, _ := object.(*corev1.Pod)
	return pod
}

// podChanged takes a committed change of a pod to the nodes it concerns.
func (h *Hub) podChanged(change *core.Change) {
	pod := podOf(change.Object)
	if pod == nil {
		return
	}
	if old := podOf(change.Old); old != nil && old.Spec.NodeName != "" && (change.Deleted || old.Spec.NodeName != pod.Spec.NodeName || old.UID != pod.UID) {
		h.remove(old.Spec.NodeName, change.Key)
	}
	if !change.Deleted && pod.Spec.NodeName != "" {
		h.place(change.Key, pod, true)
	}
}

// place makes a pod, and what it refers to, part of its node's set. With
// publish the node is told, if it does not hold this version already.
func (h *Hub) place(key core.Key, pod *corev1.Pod, publish bool) {
	node := pod.Spec.NodeName
	set := h.set(node)
	now := item{uid: pod.UID, version: version(pod)}
	before, known := set.held[key]
	if known && before.uid == now.uid && before.version == now.version {
		return
	}
	now.refs = references(pod)
	for _, ref := range now.refs {
		h.refer(node, ref, publish)
	}
	for _, ref := range before.refs {
		h.unrefer(node, ref)
	}
	set.put(key, now)
	if publish {
		h.publish(node, set, desired{action: actionSet, key: key, uid: now.uid, version: now.version, object: pod})
	}
}

func (h *Hub) remove(node string, key core.Key) {
	set := h.set(node)
	before, known := set.held[key]
	if !known {
		return
	}
	set.drop(key)
	h.publish(node, set, desired{action: actionUnset, key: key, uid: before.uid})
	for _, ref := range before.refs {
		h.unrefer(node, ref)
	}
}

// refer counts a pod's reference; the first brings the object to the node.
func (h *Hub) refer(node string, ref core.Key, publish bool) {
	if h.refs[ref] == nil {
		h.refs[ref] = map[string]int{}
	}
	h.refs[ref][node]++
	if h.refs[ref][node] > 1 {
		return
	}
	if object, ok := h.config.Client.Snapshot().Get(ref); ok {
		h.hold(node, ref, object, publish)
	}
}

func (h *Hub) unrefer(node string, ref core.Key) {
	if h.refs[ref][node]--; h.refs[ref][node] > 0 {
		return
	}
	delete(h.refs[ref], node)
	if len(h.refs[ref]) == 0 {
		delete(h.refs, ref)
	}
	set := h.set(node)
	if before, ok := set.held[ref]; ok {
		set.drop(ref)
		h.publish(node, set, desired{action: actionUnset, key: ref, uid: before.uid})
	}
}

func (h *Hub) hold(node string, key core.Key, object core.Object, publish bool) {
	set := h.set(node)
	now := item{uid: object.GetUID(), version: version(object), revision: core.Revision(object)}
	if before, ok := set.held[key]; ok && before.revision >= now.revision {
		return // the watch lags behind the snapshot that it was taken from
	}
	set.put(key, now)
	if publish {
		h.publish(node, set, desired{action: actionSet, key: key, uid: now.uid, version: now.version, object: object})
	}
}

// referentChanged takes a change of a ConfigMap, Secret or RuntimeClass to the nodes that
// run pods which refer to it.
func (h *Hub) referentChanged(change *core.Change) {
	for node := range h.refs[change.Key] {
		if !change.Deleted {
			h.hold(node, change.Key, change.Object, true)
			continue
		}
		set := h.set(node)
		if before, ok := set.held[change.Key]; ok && before.revision < change.Revision {
			set.drop(change.Key)
			h.publish(node, set, desired{action: actionUnset, key: change.Key, uid: before.uid})
		}
	}
}

func (h *Hub) publish(node string, set *nodeSet, d desired) {
	set.sequence++
	set.published, set.marks = time.Now(), 0
	d.term, d.sequence = h.config.Term(), set.sequence
	h.send(node, &d)
}

// references returns the ConfigMaps and Secrets that a pod's environment,
// volumes and image pulls refer to, and its RuntimeClass.
func references(pod *corev1.Pod) []core.Key {
	var refs []core.Key
	add := func(resource core.GroupResource, name string) {
		key := core.Key{Resource: resource.Resource, Namespace: pod.Namespace, Name: name}
		if name != "" && !slices.Contains(refs, key) {
			refs = append(refs, key)
		}
	}
	if name := pod.Spec.RuntimeClassName; name != nil {
		refs = append(refs, core.Key{Group: core.RuntimeClasses.Group, Resource: core.RuntimeClasses.Resource, Name: *name})
	}
	for i := range pod.Spec.ImagePullSecrets {
		add(core.Secrets, pod.Spec.ImagePullSecrets[i].Name)
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			environmentRefs(&containers[i], add)
		}
	}
	for i := range pod.Spec.Volumes {
		volumeRefs(&pod.Spec.Volumes[i].VolumeSource, add)
	}
	return refs
}

func environmentRefs(c *corev1.Container, add func(core.GroupResource, string)) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			add(core.ConfigMaps, from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			add(core.Secrets, from.SecretRef.Name)
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			add(core.ConfigMaps, ref.Name)
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			add(core.Secrets, ref.Name)
		}
	}
}

func volumeRefs(v *corev1.VolumeSource, add func(core.GroupResource, string)) {
	if v.ConfigMap != nil {
		add(core.ConfigMaps, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		add(core.Secrets, v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, source := range v.Projected.Sources {
		if source.ConfigMap != nil {
			add(core.ConfigMaps, source.ConfigMap.Name)
		}
		if source.Secret != nil {
			add(core.Secrets, source.Secret.Name)
		}
	}
}
