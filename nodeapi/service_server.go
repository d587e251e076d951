package nodeapi

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
)

// ErrAnswered is returned for a second answer to one request or goal.
var ErrAnswered = errors.New("it is answered already")

// ServiceServer answers requests. Clients may be written with any of dora's APIs.
type ServiceServer struct {
	node              *Node
	request, response string
}

// Request is a message that wants an answer. Its memory may be released after the
// answer.
type Request struct {
	*Input
	server   *ServiceServer
	id       string
	answered atomic.Bool
}

// NewServiceServer makes a server for the requests that come on an input. It answers on
// an output, see [Node.NewServiceClient] for the dataflow.
func (n *Node) NewServiceServer(request, response string) (*ServiceServer, error) {
	if _, err := n.sourceOf(request); err != nil {
		return nil, fmt.Errorf("service server: %w", err)
	}
	if err := n.mustOutput(response); err != nil {
		return nil, fmt.Errorf("service server: %w", err)
	}
	return &ServiceServer{node: n, request: request, response: response}, nil
}

// Request returns the request that an event is, if it is one for this server. A message
// without a request_id is none.
//
//	for event := range node.Events() {
//		if request, ok := server.Request(event); ok {
//			err := request.Reply(answer)
//			...
//		}
//	}
func (s *ServiceServer) Request(ev Event) (*Request, bool) {
	in, ok := ev.(*Input)
	if !ok || in.ID != s.request {
		return nil, false
	}
	id, ok := Lookup[Text](in.Metadata.Parameters, ParamRequestID)
	if !ok {
		return nil, false
	}
	return &Request{Input: in, server: s, id: string(id)}, true
}

// RequestID is the id that the client gave.
func (r *Request) RequestID() string { return r.id }

// Reply sends the answer. It carries the parameters of the request, as clients expect
// (except for flush, which is about the request's way), and those of opts beside or in
// place of them. It may come later, in any order, from any goroutine, but once.
func (r *Request) Reply(data arrow.Array, opts ...SendOption) error {
	if r.answered.Swap(true) {
		return fmt.Errorf("request %s: %w", r.id, ErrAnswered)
	}
	err := r.server.node.SendOutput(r.server.response, data, answerOptions(r.Metadata.Parameters, opts, With(ParamRequestID, Text(r.id)))...)
	if err != nil {
		r.answered.Store(false) // nothing was sent
	}
	return err
}

// answerOptions copies the parameters of a message to its answer. The id comes last: an
// answer under another one would reach nobody.
func answerOptions(of Parameters, opts []SendOption, id ...SendOption) []SendOption {
	back := maps.Clone(of)
	delete(back, ParamFlush)
	return append(append([]SendOption{WithParameters(back)}, opts...), id...)
}
