package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

const (
	envConfig     = "DORA_NODE_CONFIG"
	envListenPort = "DORA_DAEMON_LOCAL_LISTEN_PORT"
	envParentPID  = "DORA_RUN_PARENT_PID"
	envShmSocket  = "DORA_SHM_SOCKET"
	envShmToken   = "DORA_SHM_TOKEN"

	// defaultListenPort is where daemons wait for dynamic nodes.
	defaultListenPort = 53291
	configTimeout     = 10 * time.Second
)

// ErrNotInDataflow is returned by Init in a process that was not started as a node.
var ErrNotInDataflow = errors.New("this process is not a node of a running dataflow")

// Init makes this process the node as which it was started: by dora, from the `path`
// of a node in a dataflow. It connects to the daemon and returns when all nodes of the
// dataflow are ready.
//
// The node lives until Close or until ctx is done: then its events end.
//
// If the process was started for a dataflow by `dora run`, it ends, and with it its
// process group, should the dataflow's dora process die without a chance to stop it:
// a node never outlives its dataflow.
func Init(ctx context.Context) (*Node, error) {
	text, ok := os.LookupEnv(envConfig)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not set; name this program as the path of a node in a dataflow file and start that with "+
			"`dora run dataflow.yml`, or, for a node with `path: dynamic`, use InitDynamic", ErrNotInDataflow, envConfig)
	}
	cfg, err := nodewire.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s, set by dora, cannot be used: %w", envConfig, err)
	}
	if socket := os.Getenv(envShmSocket); socket != "" {
		cfg.Shared = &nodewire.Shared{Socket: socket, Token: os.Getenv(envShmToken)}
	}
	return begin(ctx, cfg)
}

// InitDynamic joins a running dataflow as the node id, which has `path: dynamic` there:
// the process is started by hand. It asks the daemon on this machine, at port 53291 or
// DORA_DAEMON_LOCAL_LISTEN_PORT. In a process that dora did start, it is Init.
func InitDynamic(ctx context.Context, id string) (*Node, error) {
	if _, ok := os.LookupEnv(envConfig); ok {
		return Init(ctx)
	}
	addr, err := listenAddr()
	if err != nil {
		return nil, err
	}
	cfg, err := dynamicConfig(ctx, addr, id)
	if err != nil {
		return nil, err
	}
	return begin(ctx, cfg)
}

func begin(ctx context.Context, cfg *nodewire.Config) (*Node, error) {
	armGuard()
	n, err := start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(n.ctx, func() {
		n.queue.close(context.Cause(n.ctx))
		n.dispatch.close(context.Cause(n.ctx))
	})
	return n, nil
}

func listenAddr() (string, error) {
	port := defaultListenPort
	if text := os.Getenv(envListenPort); text != "" {
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil || p == 0 {
			return "", fmt.Errorf("%s=%s is not a port number", envListenPort, text)
		}
		port = int(p)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

// dynamicConfig asks the daemon at addr what the node id is to be.
func dynamicConfig(ctx context.Context, addr, id string) (*nodewire.Config, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("no dora daemon answers at %s for the dynamic node %s: %w; start its dataflow first, and set %s if the daemon uses another port",
			addr, id, err, envListenPort)
	}
	c := nodewire.NewConn(nc)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(configTimeout))
	request := &nodewire.Request{Kind: nodewire.GetConfig, Node: id, Time: nodewire.NewClock().Now()}
	if err := c.Send(request); err != nil {
		return nil, fmt.Errorf("ask the dora daemon at %s for the dynamic node %s: %w", addr, id, err)
	}
	frame, err := c.ReadFrame()
	if err != nil {
		return nil, fmt.Errorf("ask the dora daemon at %s for the dynamic node %s: %w", addr, id, err)
	}
	defer frame.Release()
	cfg, _, err := nodewire.ParseDynamicReply(frame.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the dora daemon at %s has no place for the dynamic node %s: %w", addr, id, err)
	}
	return cfg, nil
}
