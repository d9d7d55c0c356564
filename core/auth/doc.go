// Package auth says who sends a request to a cluster and what they may do: a
// certificate authority and a file of tokens under a folder, the kubeconfigs
// made from them, and two fixed roles. It serves nothing and knows no objects.
package auth
