package wire

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Limits on messages and what is in them, in bytes where nothing else is said.
const (
	// MaxMessage bounds what a plugin is sent.
	MaxMessage = 256 << 20
	// MaxReply bounds what it answers.
	MaxReply = 64 << 20
	// maxFields bounds the fields of an answer, elements of lists included:
	// two bytes on the wire become a hundred in memory.
	maxFields = 200_000
	// maxObject bounds one object of an answer as it is encoded. The core
	// keeps objects of 1.5 MiB; JSON is longer than what it keeps.
	maxObject = 4 << 20
	// maxControllers bounds the controllers of one plugin, and maxChildren the
	// kinds of children of each.
	maxControllers, maxChildren = 1000, 100
)

// CallOptions bound what a plugin is sent and what is taken from it.
func CallOptions() grpc.DialOption {
	return grpc.WithDefaultCallOptions(
		grpc.MaxCallSendMsgSize(MaxMessage), grpc.MaxCallRecvMsgSize(MaxReply), grpc.ForceCodecV2(boundedCodec{encoding.GetCodecV2("proto")}))
}

// ServerOptions are those of a plugin's server.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxReply)}
}

// boundedCodec refuses answers that would take far more memory than room on
// the wire, before they are decoded.
type boundedCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c boundedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	budget := maxFields
	if err := spend(whole.ReadOnlyData(), message.ProtoReflect().Descriptor(), &budget); err != nil {
		return fmt.Errorf("answer of %d bytes: %w", data.Len(), err)
	}
	return proto.Unmarshal(whole.ReadOnlyData(), message)
}

var errTooManyFields = errors.New("it has too many parts")

// spend takes a message's fields, and those within them, from the budget.
func spend(data []byte, d protoreflect.MessageDescriptor, budget *int) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if *budget--; *budget < 0 {
			return errTooManyFields
		}
		n = protowire.ConsumeFieldValue(number, kind, data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		value := data[:n]
		data = data[n:]
		field := d.Fields().ByNumber(number)
		if kind != protowire.BytesType || field == nil || field.Message() == nil {
			continue
		}
		inner, m := protowire.ConsumeBytes(value)
		if m < 0 {
			return protowire.ParseError(m)
		}
		if err := spend(inner, field.Message(), budget); err != nil {
			return err
		}
	}
	return nil
}
