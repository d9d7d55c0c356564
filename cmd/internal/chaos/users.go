package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weftrun/weft/cmd/internal/history"
)

// namespace is where everything is.
const namespace = "default"

// users are the clients of the cluster.
type users struct {
	c       *cluster
	o       *options
	client  kubernetes.Interface // of the first core
	history history.Recorder
	pods    []cache.SharedIndexInformer // at each core
	all     []*user
	group   sync.WaitGroup
	stop    context.CancelFunc
	idle    map[string]usage // of each process, before there was work
}

// user is one client with objects of its own; what it was told is what must be.
type user struct {
	*users
	client kubernetes.Interface // of one of the cores
	number int
	r      *rand.Rand
	made   int
	// replicas of each Deployment, and completions of each Job, as acknowledged.
	deployments, jobs map[string]int32
	lost              error // something acknowledged that is not there
}

// usersMax is how many clients there are.
const usersMax = 4

func newUsers(ctx context.Context, c *cluster, o *options) (*users, error) {
	u := &users{c: c, o: o}
	var clients []kubernetes.Interface
	for _, core := range c.cores {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(core.folder, "kubeconfig"))
		if err != nil {
			return nil, err
		}
		config.QPS, config.Timeout = -1, 0
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	u.client = clients[0]
	var err error
	if u.idle, err = c.idle(ctx); err != nil {
		return nil, err
	}
	for _, client := range clients {
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
		pods := factory.Core().V1().Pods().Informer()
		factory.Start(ctx.Done())
		if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
			return nil, errors.New("the informer of pods does not sync")
		}
		u.pods = append(u.pods, pods)
	}
	for i := range usersMax {
		one := &user{
			users: u, client: clients[i%len(clients)], number: i, r: rand.New(rand.NewPCG(o.seed, uint64(100+i))),
			deployments: map[string]int32{}, jobs: map[string]int32{},
		}
		u.all = append(u.all, one)
		for range o.deployments / usersMax {
			one.newDeployment(ctx)
		}
	}
	return u, nil
}

// work has the users do things until rest.
func (u *users) work(ctx context.Context) {
	ctx, u.stop = context.WithCancel(ctx)
	for _, one := range u.all {
		u.group.Go(func() {
			for ctx.Err() == nil {
				one.act(context.WithoutCancel(ctx))
				wait(ctx, time.Duration(one.r.IntN(200))*time.Millisecond)
			}
		})
	}
}

// rest returns when each has ended what it was about.
func (u *users) rest() {
	u.stop()
	u.group.Wait()
}

func (u *user) act(ctx context.Context) {
	switch n := u.r.IntN(20); {
	case n < 2:
		u.scale(ctx)
	case n == 2:
		if name, ok := u.pick(u.deployments); ok {
			u.remove(ctx, name, u.deployments, func(ctx context.Context, o metav1.DeleteOptions) error {
				return u.client.AppsV1().Deployments(namespace).Delete(ctx, name, o)
			})
			u.newDeployment(ctx)
		}
	case n < 6:
		u.jobOrNot(ctx)
	default:
		u.count(ctx)
	}
}

func (u *user) name(kind string) string {
	u.made++
	return fmt.Sprintf("%s-%d-%d", kind, u.number, u.made)
}

// requestTime is a client's patience with one request.
const requestTime = 5 * time.Second

// request asks until there is an answer. Of one that is repeated because its
// answer was lost, "exists already" and "not found" are answers as well; first
// tells whether it was not repeated.
func (u *user) request(ctx context.Context, do func(ctx context.Context) error) (first bool, err error) {
	for first = true; ; first = false {
		asking, cancel := context.WithTimeout(ctx, requestTime)
		err = do(asking)
		cancel()
		if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return first, err
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// pick returns one of the names.
func (u *user) pick(of map[string]int32) (string, bool) {
	if len(of) == 0 {
		return "", false
	}
	least := ""
	for name := range of {
		if least == "" || name < least { // the oldest; the map's order is not the seed's
			least = name
		}
	}
	return least, true
}

func (u *user) newDeployment(ctx context.Context) {
	name, n := u.name("web"), 1+u.r.Int32N(u.o.replicas)
	_, err := u.request(ctx, func(ctx context.Context) error {
		_, err := u.client.AppsV1().Deployments(namespace).Create(ctx, newDeployment(name, n), metav1.CreateOptions{})
		return err
	})
	u.deployments[name] = n
	if err != nil && !apierrors.IsAlreadyExists(err) {
		u.lost = errors.Join(u.lost, fmt.Errorf("create deployment %s: %w", name, err))
	}
}

func (u *user) scale(ctx context.Context) {
	name, ok := u.pick(u.deployments)
	if !ok {
		return
	}
	n := 1 + u.r.Int32N(u.o.replicas)
	_, err := u.request(ctx, func(ctx context.Context) error {
		d, err := u.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.Replicas = &n
		_, err = u.client.AppsV1().Deployments(namespace).Update(ctx, d, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		u.lost = errors.Join(u.lost, fmt.Errorf("an acknowledged object is lost: scale deployment %s: %w", name, err))
		return
	}
	u.deployments[name] = n
}

// remove deletes an object that was acknowledged.
func (u *user) remove(ctx context.Context, name string, of map[string]int32, do func(context.Context, metav1.DeleteOptions) error) {
	background := metav1.DeletePropagationBackground
	first, err := u.request(ctx, func(ctx context.Context) error { return do(ctx, metav1.DeleteOptions{PropagationPolicy: &background}) })
	if err != nil && first {
		u.lost = errors.Join(u.lost, fmt.Errorf("an acknowledged object is lost: delete %s: %w", name, err))
	}
	delete(of, name)
}

// jobOrNot makes a Job, or deletes one that there are too many of.
func (u *user) jobOrNot(ctx context.Context) {
	if len(u.jobs) >= u.o.jobs/usersMax {
		if name, ok := u.pick(u.jobs); ok {
			u.remove(ctx, name, u.jobs, func(ctx context.Context, o metav1.DeleteOptions) error {
				return u.client.BatchV1().Jobs(namespace).Delete(ctx, name, o)
			})
		}
		return
	}
	name, n := u.name("job"), 1+u.r.Int32N(5)
	_, err := u.request(ctx, func(ctx context.Context) error {
		_, err := u.client.BatchV1().Jobs(namespace).Create(ctx, newJob(name, n), metav1.CreateOptions{})
		return err
	})
	u.jobs[name] = n
	if err != nil && !apierrors.IsAlreadyExists(err) {
		u.lost = errors.Join(u.lost, fmt.Errorf("create job %s: %w", name, err))
	}
}

const counters = 3

// count raises a counter by one, or reads it.
func (u *user) count(ctx context.Context) {
	name := fmt.Sprint("counter-", u.r.IntN(counters))
	maps := u.client.CoreV1().ConfigMaps(namespace)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	read := u.history.Read(u.number, name)
	m, err := maps.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		read.Done(0)
		_, _ = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}) // another may have
		return
	}
	if err != nil {
		read.Unknown()
		return
	}
	n, _ := strconv.ParseInt(m.Data["n"], 10, 64) // a new one has none
	read.Done(n)
	m.Data = map[string]string{"n": strconv.FormatInt(n+1, 10)}
	add := u.history.Add(u.number, name)
	_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
	switch {
	case err == nil:
		add.Done(n + 1)
	case apierrors.IsConflict(err): // another was faster: this one did nothing
	default:
		add.Unknown()
	}
}

func template(name, module string, policy corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: policy, TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{Name: "c", Image: "file:" + module + ".wasm"}},
		},
	}
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: template(name, "park", corev1.RestartPolicyAlways),
		},
	}
}

func newJob(name string, completions int32) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: new(int32(3)), BackoffLimit: new(int32(1000)),
			Template: template(name, "done", corev1.RestartPolicyNever),
		},
	}
}
