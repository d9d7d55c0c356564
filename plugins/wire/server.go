package wire

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/weftrun/weft/core"
)

// cacheBytes bounds the objects that a plugin process keeps between decisions.
const cacheBytes = 64 << 20

// Server serves controllers to the core.
type Server struct {
	UnimplementedControllersServer

	controllers map[string]core.Controller
	order       []string
	cache       *Cache
	encoding    atomic.Int32
}

// NewServer returns a server of these controllers, whose names must differ.
func NewServer(controllers ...core.Controller) (*Server, error) {
	s := &Server{controllers: map[string]core.Controller{}, cache: NewCache(cacheBytes)}
	for _, c := range controllers {
		name := c.Describe().Name
		if _, ok := s.controllers[name]; ok || name == "" {
			return nil, fmt.Errorf("serve controller %q: the name is empty or served already", name)
		}
		s.controllers[name] = c
		s.order = append(s.order, name)
	}
	return s, nil
}

// Describe implements ControllersServer.
func (s *Server) Describe(_ context.Context, r *DescribeRequest) (*DescribeResponse, error) {
	out := &DescribeResponse{}
	for _, offered := range r.GetCapabilities() {
		if offered == CapabilityProtobuf || offered == CapabilityCache {
			out.Capabilities = append(out.Capabilities, offered)
		}
	}
	if slices.Contains(out.Capabilities, CapabilityProtobuf) {
		s.encoding.Store(int32(Protobuf))
	}
	for _, name := range s.order {
		d, err := FromDescription(s.controllers[name].Describe())
		if err != nil {
			return nil, err
		}
		out.Controllers = append(out.Controllers, d)
	}
	return out, nil
}

// Relate implements ControllersServer.
func (s *Server) Relate(_ context.Context, r *RelateRequest) (out *RelateResponse, err error) {
	defer recovered(r.GetController(), &err)
	c, ok := s.controllers[r.GetController()]
	if !ok {
		return nil, fmt.Errorf("controller %q is not served here", r.GetController())
	}
	parent, err := s.cache.Resolve(r.GetParent())
	if missing := (*MissingError)(nil); errors.As(err, &missing) {
		return &RelateResponse{Missing: []string{missing.UID}}, nil
	}
	if err != nil {
		return nil, err
	}
	return &RelateResponse{Relations: FromRelations(c.Relate(parent))}, nil
}

// Decide implements ControllersServer.
func (s *Server) Decide(ctx context.Context, r *DecideRequest) (out *DecideResponse, err error) {
	defer recovered(r.GetController(), &err)
	c, ok := s.controllers[r.GetController()]
	if !ok {
		return nil, fmt.Errorf("controller %q is not served here", r.GetController())
	}
	seen, err := ToObservation(r, s.cache.Resolve)
	if missing := (*MissingError)(nil); errors.As(err, &missing) {
		return &DecideResponse{Missing: []string{missing.UID}}, nil
	}
	if err != nil {
		return nil, err
	}
	decision, err := c.Decide(ctx, seen)
	if err != nil {
		return &DecideResponse{Error: err.Error()}, nil
	}
	encoded, err := FromDecision(decision, Encoding(s.encoding.Load()))
	if err != nil {
		return nil, err
	}
	return &DecideResponse{Decision: encoded}, nil
}

// recovered keeps one controller's panic from ending the others.
func recovered(controller string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("controller %s panicked: %v\n%s", controller, r, debug.Stack())
	}
}
