package node_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRuntimeClass(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.rt.Handlers = []string{"own"}
		p, name := pod("p", corev1.RestartPolicyAlways, "run forever"), "special"
		p.Spec.RuntimeClassName = &name
		w.set(p)
		w.want(p, "Pending CreatePodSandboxError")
		if m := w.container(p).State.Waiting.Message; m != `RuntimeClass "special" not found` {
			t.Error(m)
		}
		time.Sleep(time.Second)
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: "other"}
		w.set(class)
		w.want(p, "Pending CreatePodSandboxError")
		time.Sleep(time.Minute)
		w.want(p, "Pending CreatePodSandboxError")
		if m := w.container(p).State.Waiting.Message; m != `failed to get sandbox runtime: no runtime for "other" is configured` {
			t.Error(m)
		}
		if events := w.events("FailedCreatePodSandBox"); len(events) != 2 || events[1] !=
			`Warning FailedCreatePodSandBox Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "other" is configured` {
			t.Errorf("events %q", events)
		}
		class = class.DeepCopy()
		class.Handler = "own"
		w.set(class)
		w.want(p, "Running running") // at once
	})
}
