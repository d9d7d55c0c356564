// Package wire is version 1 of what the core and a plugin process say to each
// other, and its conversion to and from the types of core. It must not start
// processes or open connections.
package wire

//go:generate go run ./internal/gen protoc-gen-go protoc-gen-go-grpc
