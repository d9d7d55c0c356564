package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

// clients are users, each with objects of its own and all with some counters.
type clients struct {
	w     *world
	stop  context.CancelFunc
	group sync.WaitGroup
	all   []*client
}

// client is one user. What it was told is what must be.
type client struct {
	w      *world
	number int
	r      *rand.Rand
	made   int
	// wanted are the objects that were acknowledged, and how many replicas or
	// completions each is to have.
	wanted map[core.Key]int32
}

func (w *world) startClients() *clients {
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	c := &clients{w: w, stop: stop}
	for i := range clientsMax {
		one := &client{w: w, number: i, r: rand.New(rand.NewPCG(w.seed, uint64(100+i))), wanted: map[core.Key]int32{}}
		c.all = append(c.all, one)
		c.group.Go(func() { one.run(ctx) })
	}
	return c
}

// finish has each client end with what it is about.
func (c *clients) finish() {
	c.stop()
	c.group.Wait()
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.act(ctx)
		most := 3000
		if c.w.slow.Load() {
			most *= 20
		}
		sleep(ctx, time.Duration(c.r.IntN(most))*time.Millisecond)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *client) act(ctx context.Context) {
	switch c.r.IntN(12) {
	case 0, 1:
		c.create(core.Deployments, newDeployment(c.name("web"), int32(c.r.IntN(5))))
	case 2:
		c.create(core.Jobs, newJob(c.name("job"), int32(1+c.r.IntN(4)), c.r.IntN(8)))
	case 3:
		c.create(core.Pods, newPod(c.name("pod")))
	case 4, 5:
		c.scale()
	case 6:
		c.remove()
	case 7:
		c.replacePod(ctx)
	default:
		c.count()
	}
}

func (c *client) name(kind string) string {
	c.made++
	return fmt.Sprintf("%s-%d-%d", kind, c.number, c.made)
}

// requestTime is a client's patience with one request.
const requestTime = 5 * time.Second

// request asks until there is an answer, whoever gives it. Of a request that is
// repeated because of a lost answer, "exists already" and "not found" are
// answers as well.
func (c *client) request(do func(ctx context.Context, client core.Client) error) error {
	for tries := 0; ; tries++ {
		if run := c.w.current(); run != nil {
			patience := requestTime
			if c.w.more != nil && tries < 4 {
				patience = 300 * time.Millisecond << tries
			}
			ctx, cancel := context.WithTimeout(c.ctx(), patience)
			err := do(ctx, run.client)
			cancel()
			if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
				return err
			}
		}
		time.Sleep(time.Duration(50+c.r.IntN(100)) * time.Millisecond)
	}
}

func (c *client) ctx() context.Context {
	return core.WithUser(context.WithoutCancel(c.w.t.Context()), core.System("client"))
}

func (c *client) create(resource core.GroupResource, o core.Object) {
	key := core.KeyFor(resource, o)
	c.w.taken.again(key)
	err := c.request(func(ctx context.Context, client core.Client) error {
		_, err := client.Create(ctx, core.Copy(o), core.WriteOptions{})
		return err
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.w.t.Errorf("seed %d: create %s: %v", c.w.seed, key, err)
		return
	}
	c.wanted[key] = size(o)
}

// size is how many replicas or completions an object is to have.
func size(o core.Object) int32 {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return *o.Spec.Replicas
	case *batchv1.Job:
		return *o.Spec.Completions
	}
	return 1
}

// pick returns one of the client's objects of a resource.
func (c *client) pick(resource core.GroupResource) (core.Key, bool) {
	var keys []core.Key
	for key := range c.wanted {
		if key.GroupResource() == resource && !c.w.taken.isAway(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return core.Key{}, false
	}
	least := keys[0] // the map's order is not the seed's
	for _, key := range keys {
		if key.Less(least) {
			least = key
		}
	}
	return least, true
}

func (c *client) scale() {
	key, ok := c.pick(core.Deployments)
	if !ok {
		return
	}
	to := int32(c.r.IntN(6))
	err := c.request(func(ctx context.Context, client core.Client) error {
		_, err := client.Mutate(ctx, key, func(o core.Object) error {
			d, ok := o.(*appsv1.Deployment)
			if !ok {
				return fmt.Errorf("%s is a %T", key, o)
			}
			d.Spec.Replicas = &to
			return nil
		}, core.WriteOptions{})
		return err
	})
	if err != nil {
		c.w.t.Errorf("seed %d: an acknowledged object is lost: scale %s: %v", c.w.seed, key, err)
		return
	}
	c.wanted[key] = to
}

func (c *client) remove() {
	resource := []core.GroupResource{core.Deployments, core.Jobs, core.Pods}[c.r.IntN(3)]
	if key, ok := c.pick(resource); ok {
		c.delete(key, nil)
	}
}

// delete deletes an object, after its grace period if grace is nil.
func (c *client) delete(key core.Key, grace *int64) {
	background := metav1.DeletePropagationBackground
	tries := 0
	err := c.request(func(ctx context.Context, client core.Client) error {
		tries++
		_, _, err := client.Delete(ctx, key, core.DeleteOptions{Propagation: &background, GracePeriodSeconds: grace})
		return err
	})
	if err != nil && tries == 1 && !c.w.taken.isAway(key) {
		c.w.t.Errorf("seed %d: an acknowledged object is lost: delete %s: %v", c.w.seed, key, err)
	}
	delete(c.wanted, key)
}

// replacePod deletes a bare pod and makes another of the same name as soon as
// it may: its identity must not run twice, but if it was deleted by force.
func (c *client) replacePod(ctx context.Context) {
	key, ok := c.pick(core.Pods)
	if !ok {
		return
	}
	var grace *int64
	if c.w.more != nil && len(c.wanted)%3 == 0 {
		c.w.taken.vouch(key.Name)
		grace = new(int64)
	}
	c.delete(key, grace)
	for ctx.Err() == nil {
		gone := false
		_ = c.request(func(ctx context.Context, client core.Client) error {
			snapshot, err := client.WaitFor(ctx, 0)
			if err == nil {
				_, there := snapshot.Get(key)
				gone = !there
			}
			return err
		})
		if gone {
			c.create(core.Pods, newPod(key.Name))
			return
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

const countersMax = 2

// count raises a counter by one, or reads it.
func (c *client) count() {
	name := fmt.Sprint("counter-", c.r.IntN(countersMax))
	key := core.Key{Resource: core.ConfigMaps.Resource, Namespace: "default", Name: name}
	run := c.w.current()
	if run == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx(), requestTime)
	defer cancel()
	if c.r.IntN(3) == 0 {
		call := c.w.history.Read(c.number, name)
		snapshot, err := run.client.WaitFor(ctx, 0)
		if err != nil {
			call.Unknown()
			return
		}
		o, _ := snapshot.Get(key)
		call.Done(number(o))
		return
	}
	_, _ = run.client.Create(ctx, newCounter(name), core.WriteOptions{}) // there may be one
	call := c.w.history.Add(c.number, name)
	after, err := run.client.Mutate(ctx, key, func(o core.Object) error {
		m, ok := o.(*corev1.ConfigMap)
		if !ok {
			return fmt.Errorf("%s is a %T", key, o)
		}
		m.Data = map[string]string{"n": strconv.FormatInt(number(o)+1, 10)}
		return nil
	}, core.WriteOptions{})
	if err != nil {
		call.Unknown()
		return
	}
	call.Done(number(after))
}

func number(o core.Object) int64 {
	m, ok := o.(*corev1.ConfigMap)
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(m.Data["n"], 10, 64) // a new one has none
	return n
}

func newCounter(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func template(name, script string, policy corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: policy, TerminationGracePeriodSeconds: new(int64(2)),
			Containers: []corev1.Container{{Name: "c", Image: "m", Args: strings.Fields(script)}},
		},
	}
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: template(name, "run forever", corev1.RestartPolicyAlways),
		},
	}
}

func newJob(name string, completions int32, seconds int) *batchv1.Job {
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: new(int32(2)), BackoffLimit: new(int32(1000)),
			Template: template(name, fmt.Sprintf("run %ds exit 0", seconds), corev1.RestartPolicyNever),
		},
	}
}

func newPod(name string) *corev1.Pod {
	t := template(name, "run forever", corev1.RestartPolicyAlways)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: t.Spec,
	}
}
