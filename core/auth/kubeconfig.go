package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/weftrun/weft/core"
)

// Kubeconfig is what a client needs to reach a cluster as one user.
type Kubeconfig struct {
	Cluster   string // optional, "weft": names the cluster and the context
	Server    string // required: "https://127.0.0.1:6443"
	Namespace string // optional, "default"
	Authority *Authority
	User      core.User // gets a client certificate, unless Token is set
	Token     string    // optional: a bearer token of the user
}

type kubeconfigFile struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server    string `json:"server"`
		Authority []byte `json:"certificate-authority-data"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Certificate []byte `json:"client-certificate-data,omitempty"`
		Key         []byte `json:"client-key-data,omitempty"`
		Token       string `json:"token,omitempty"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster   string `json:"cluster"`
		User      string `json:"user"`
		Namespace string `json:"namespace,omitempty"`
	} `json:"context"`
}

// Encode returns the file's text, with a client certificate made for User if
// no Token is given.
func (k Kubeconfig) Encode() ([]byte, error) {
	if k.Server == "" || k.Authority == nil || k.User.Name == "" {
		return nil, errors.New("make kubeconfig: Server, Authority and User are required")
	}
	if k.Cluster == "" {
		k.Cluster = "weft"
	}
	var cluster namedCluster
	cluster.Name, cluster.Cluster.Server, cluster.Cluster.Authority = k.Cluster, k.Server, k.Authority.PEM()
	var user namedUser
	user.Name, user.User.Token = k.User.Name, k.Token
	if k.Token == "" {
		certificate, key, err := k.Authority.Client(k.User)
		if err != nil {
			return nil, err
		}
		user.User.Certificate, user.User.Key = certificate, key
	}
	var context namedContext
	context.Name = k.Cluster
	context.Context.Cluster, context.Context.User, context.Context.Namespace = k.Cluster, k.User.Name, k.Namespace
	data, err := yaml.Marshal(kubeconfigFile{
		APIVersion: "v1", Kind: "Config", CurrentContext: k.Cluster,
		Clusters: []namedCluster{cluster}, Users: []namedUser{user}, Contexts: []namedContext{context},
	})
	if err != nil {
		return nil, fmt.Errorf("make kubeconfig: %w", err)
	}
	return data, nil
}

// WriteFile writes the file whole or not at all, readable by its owner only.
// Its folder is made if it does not exist.
func (k Kubeconfig) WriteFile(path string) error {
	data, err := k.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return writeFile(path, data)
}
