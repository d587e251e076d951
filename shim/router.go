package shim

import (
	"time"

	"github.com/dora-go/dora/transport/link"
)

type router interface {
	Environment(node string, generation uint64, restartCount uint32) ([]string, error)
	Spawned(node string, generation uint64)
	Phase(node string) string
	Plan(node string, p link.ExitPlan)
	Unread(node string) time.Duration
	Release()
	Abort(reason string)
	Exited(node string, generation uint64, d link.Disposition, failure string)
	CloseOutputs(node, failed string)
	StopNode(node string)
	Deliver(d link.Deliver) error
	Line(node string, l link.LogLine, raw []byte)
	Fill(st *link.NodeState)
	Close()
}

type routerConfig struct {
	Load            *link.Load
	Programs        map[string]string
	Report          func(link.Fact)
	ParentPID       int
	StateDir        string
	LocalListenPort int
}
type bare struct{}

func newRouter(routerConfig) (router, error)                      { return bare{}, nil }
func (bare) Environment(string, uint64, uint32) ([]string, error) { return nil, nil }
func (bare) Spawned(string, uint64)                               {}
func (bare) Phase(string) string                                  { return "spawned" }
func (bare) Plan(string, link.ExitPlan)                           {}
func (bare) Unread(string) time.Duration                          { return 0 }
func (bare) Release()                                             {}
func (bare) Abort(string)                                         {}
func (bare) Exited(string, uint64, link.Disposition, string)      {}
func (bare) CloseOutputs(string, string)                          {}
func (bare) StopNode(string)                                      {}
func (bare) Deliver(link.Deliver) error                           { return nil }
func (bare) Line(string, link.LogLine, []byte)                    {}
func (bare) Fill(*link.NodeState)                                 {}
func (bare) Close()                                               {}
