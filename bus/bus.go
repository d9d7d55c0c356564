package bus

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// The sentinels that every implementation returns, wrapped with the operation
// and the subject or name it was tried on.
var (
	// ErrConflict: an append's expected last sequence, or a lease, is not what
	// the carrier holds. Nothing was written.
	ErrConflict = errors.New("bus: conflict")
	// ErrNotFound: no such record, blob or lease, or nobody serves the subject.
	ErrNotFound = errors.New("bus: not found")
	// ErrUnavailable: the carrier did not answer in time. Of a write it is not
	// known whether it happened.
	ErrUnavailable = errors.New("bus: unavailable")
	// ErrRefused: the carrier or the responder does not permit it, or the
	// content breaks a limit. It will not succeed when tried again.
	ErrRefused = errors.New("bus: refused")
)

// Limits of a record or message in bytes.
const (
	// MaxPayload is what an implementation carries, headers included.
	MaxPayload = 8 << 20
	// MinPayload is the least that an outside server may be configured with;
	// one with less is refused, and what is above its limit is ErrRefused.
	MinPayload = 4 << 20
	// HeaderRoom is the part of both that is kept for the implementation's own
	// headers.
	HeaderRoom = 1 << 10
)

// Bus is a connection under one [Identity]. All its methods may be called
// concurrently. Byte slices passed in are not kept after the call returns;
// those handed out belong to the receiver.
type Bus interface {
	Logs
	PubSub
	Calls
	Streams
	Leases
	Blobs

	// Identity returns who this connection is.
	Identity() Identity
	// Done is closed when the connection is gone for good: closed by Close, or
	// refused by the server. A broken connection that is being mended is not
	// gone.
	Done() <-chan struct{}
	// Close ends subscriptions, streams and the connection. Handlers that run
	// have returned when it returns. A second call does nothing.
	Close() error
}

// Logs opens durable logs. Only the core may.
type Logs interface {
	// OpenLog returns the log of that name, made if it does not exist.
	OpenLog(ctx context.Context, name string) (Log, error)
}

// Log is an append-only sequence of records, numbered from 1 without gaps.
type Log interface {
	// Append stores record durably as sequence last+1 and returns that, if the
	// newest record's sequence is last (0 for a new log); otherwise it returns
	// ErrConflict. On ErrUnavailable it may or may not have been stored: read
	// Last to learn which.
	Append(ctx context.Context, last uint64, record []byte) (uint64, error)
	// Bounds returns the sequences of the oldest record kept and of the newest
	// one ever appended. For an empty log first is last+1.
	Bounds(ctx context.Context) (first, last uint64, err error)
	// Last returns the newest record, or ErrNotFound when there is none.
	Last(ctx context.Context) (Record, error)
	// Read yields the records from sequence from on, in order, up to the one
	// that was the newest when Read was called. It yields ErrNotFound first if
	// from was trimmed away. After an error it ends.
	Read(ctx context.Context, from uint64) iter.Seq2[Record, error]
	// Trim removes the records below sequence before. The newest stays known
	// to Bounds even when it is trimmed.
	Trim(ctx context.Context, before uint64) error
}

// Record is one entry of a Log. The receiver owns Data.
type Record struct {
	Sequence uint64
	Data     []byte
}

// Header holds a message's headers; keys are case-sensitive.
type Header map[string]string

// Message is what travels on a subject.
type Message struct {
	Subject string
	Header  Header // nil when empty
	Data    []byte
}

// PubSub carries messages to whoever listens now, at most once. Messages from
// one publisher to one subscriber keep their order.
type PubSub interface {
	// Publish hands the message to the carrier and returns. It does not say
	// that anyone received it.
	Publish(ctx context.Context, m Message) error
	// Subscribe calls handle for each message on a subject that matches
	// pattern, one at a time, until the subscription is closed. A handler that
	// is too slow loses messages (the oldest of a bounded queue are kept).
	Subscribe(ctx context.Context, pattern string, handle func(Message)) (Subscription, error)
	// Flush returns when the carrier has taken all that was published before.
	Flush(ctx context.Context) error
}

// Subscription is an interest in a subject.
type Subscription interface {
	// Close ends it; a handler that runs has returned when Close returns,
	// unless Close is called from that handler.
	Close() error
}

// Calls carries requests, each answered once.
type Calls interface {
	// Call sends m and returns the reply. ErrNotFound when nobody serves the
	// subject, ErrUnavailable when ctx ends first, and a *CallError when the
	// handler returned an error.
	Call(ctx context.Context, m Message) (Message, error)
	// Serve answers calls on subjects that match pattern, concurrently, at
	// most [MaxHandlers] at once. The context of a handler ends with the
	// subscription and carries the caller's identity, which was taken from the
	// subject and checked against the reply (see [Caller]).
	Serve(ctx context.Context, pattern string, handle CallHandler) (Subscription, error)
}

// MaxHandlers bounds the handlers of one Serve or Accept that run at once;
// further requests wait.
const MaxHandlers = 256

// CallHandler answers one request. An error reaches the caller as a
// *CallError with its text.
type CallHandler func(ctx context.Context, m Message) (Message, error)

// CallError is what a remote handler answered instead of a reply.
type CallError struct {
	Subject string
	Reason  string
}

func (e *CallError) Error() string { return e.Subject + ": " + e.Reason }

// Streams carries byte streams with flow control: a writer blocks when the
// other side has not read a window's worth (256 KiB).
type Streams interface {
	// Open opens a stream to whoever accepts m.Subject; m.Header and m.Data
	// reach the acceptor. Errors are those of Call.
	Open(ctx context.Context, m Message) (Stream, error)
	// Accept handles streams opened on subjects that match pattern,
	// concurrently. When handle returns, the stream is closed; an error it
	// returns is what the opener's Read then returns, as a *CallError.
	Accept(ctx context.Context, pattern string, handle StreamHandler) (Subscription, error)
}

// StreamHandler serves one opened stream.
type StreamHandler func(ctx context.Context, m Message, s Stream) error

// Stream is a flow-controlled byte stream. Read and Write may run
// concurrently with each other. A peer that vanishes is noticed within 30 s:
// both then return ErrUnavailable.
type Stream interface {
	io.ReadWriteCloser
	// CloseWrite tells the peer that no more will be written: it reads io.EOF.
	CloseWrite() error
}

// Leases grants names to one holder at a time.
type Leases interface {
	// Acquire takes the lease called name for ttl, or returns ErrConflict while
	// another holder's runs. The deadline counts from before the request.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (Lease, error)
}

// Lease is a name held until its deadline. Its methods are not concurrent.
type Lease interface {
	// Deadline is when the lease ends unless renewed, on this process's clock.
	Deadline() time.Time
	// Renew extends it by its ttl, or returns ErrConflict when it was lost.
	Renew(ctx context.Context) error
	// Resign gives it up at once.
	Resign(ctx context.Context) error
}

// Blobs keeps large immutable content under a name. Only the core may.
type Blobs interface {
	// PutBlob stores what r yields, at most limit bytes, durably, under name;
	// more is ErrRefused and stores nothing. It replaces an older one whole.
	PutBlob(ctx context.Context, name string, limit int64, r io.Reader) (BlobInfo, error)
	// GetBlob opens a blob, or returns ErrNotFound. The caller closes it. Its
	// Read returns an error, never a short content, if it was damaged.
	GetBlob(ctx context.Context, name string) (BlobInfo, io.ReadCloser, error)
	// DeleteBlob removes a blob; of none it returns ErrNotFound.
	DeleteBlob(ctx context.Context, name string) error
	// ListBlobs returns all blobs by name.
	ListBlobs(ctx context.Context) ([]BlobInfo, error)
}

// BlobInfo describes a blob.
type BlobInfo struct {
	Name     string
	Size     int64
	Modified time.Time
}
