// Package apiserver serves the state of a cluster as Kubernetes' REST API,
// so that kubectl and every client of Kubernetes can be used. It decides
// nothing about objects: what is written goes to a core.Client, who is let in
// to an Authenticator and an Authorizer that are passed in.
//
// A request goes through one pipeline (server.go): recover, limit,
// authenticate, parse the path (path.go), authorise, and then the handler of
// its verb. Handlers return errors, which errors.go turns into a Status, and
// answer in the form that the client asked for (negotiate.go, encode.go,
// table.go).
package apiserver
